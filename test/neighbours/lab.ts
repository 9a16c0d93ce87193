/**
 * Nodes at a switch, each in a network namespace of its own behind a link of limited rate, that read one version from an S3 server at the
 * same switch. Runs in a network namespace of its own (`unshare -n`). Takes a `Plan` as JSON and prints a `Result`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { buildVersion, randomFiles } from '../../cache/staged.fixture.ts';
import { initRepository } from '../../dataset/repository.ts';
import { startBreakingProxy } from '../support/breaking-proxy.ts';
import { makeAuthority } from '../support/certificates.ts';
import { makeSwitch } from '../support/networks.ts';
import { startS3Server } from '../support/s3-server.ts';
import type { Report, Setup } from './node-child.ts';

export interface Plan {
  readonly nodes: number;
  readonly files: number;
  readonly fileBytes: number;
  /** Of each link, the bucket's too, in bytes a second. */
  readonly rate: number;
  /** What befalls the first node when it has read a quarter. */
  readonly fault?: 'killed' | 'stopped';
  /** How long a node may give no sign of life, in milliseconds, where so many share few processors that the default is too little. */
  readonly silence?: number;
  /** This many nodes are there only when the others have read a quarter. */
  readonly late?: number;
}

export interface Result {
  readonly datasetBytes: number;
  readonly seconds: number;
  /** What the bucket gave, in all. */
  readonly bucketBytes: number;
  /** Of those that were not done away with. */
  readonly reports: readonly Report[];
}

const PORT = 7411;

interface NodeProcess {
  readonly child: ChildProcess;
  readonly address: string;
  /** The next line that it prints. */
  told(): Promise<unknown>;
  tell(line: string): void;
}

const plan: Plan = JSON.parse(process.argv[2]!);
const top = mkdtempSync(join(tmpdir(), 'larder-lab-'));
process.env.LARDER_STATE = join(top, 'state');
const children = new Set<ChildProcess>();
// First: it also brings the loopback up.
const network = makeSwitch({ rate: plan.rate });
await using server = await startS3Server();
await using proxy = await startBreakingProxy(server.endpoint, undefined, network.address);
try {
  const repository = await initRepository(await server.location('shared'));
  const { staged } = await buildVersion(repository, randomFiles(plan.files, plan.fileBytes), { target: 4 * 2 ** 20 });
  await repository.bucket.close();
  const location = proxy.location(repository.location);
  const authority = makeAuthority(top, 'authority');
  const identity = authority.issue();
  let started = 0;

  const plug = async (): Promise<NodeProcess> => {
    const child = spawn('unshare', ['-n', process.execPath, join(import.meta.dirname, 'node-child.ts')], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    children.add(child);
    const exited = once(child, 'exit').then(() => children.delete(child));
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    const told = async () => {
      const { value, done } = await lines.next();
      if (done) throw new Error('a node ended');
      return JSON.parse(value);
    };
    exited.catch(() => {});
    await told();
    const address = network.plug(child.pid!, { rate: plan.rate });
    return { child, address, told, tell: (line) => child.stdin!.write(`${line}\n`) };
  };
  const begin = async (node: NodeProcess, list: string) => {
    started += 1;
    const setup: Setup = {
      location,
      root: staged.root,
      cache: join(top, `cache-${started}`),
      list,
      address: node.address,
      port: PORT,
      identity,
      seed: started,
      deadlines: plan.silence === undefined ? {} : { silence: plan.silence, stall: plan.silence },
    };
    node.tell(JSON.stringify(setup));
    await node.told();
  };
  const listOf = (name: string, nodes: readonly NodeProcess[]) => {
    const file = join(top, name);
    writeFileSync(file, nodes.map(({ address }) => `${address}:${PORT}\n`).join(''));
    return file;
  };
  const read = async (node: NodeProcess): Promise<Report> => {
    for (;;) {
      const said = await node.told();
      if (typeof said === 'object') return said as Report;
    }
  };
  const nodes: NodeProcess[] = [];
  for (let at = 0; at < plan.nodes; at++) nodes.push(await plug());
  const early = nodes.slice(0, plan.nodes - (plan.late ?? 0));
  const list = listOf('nodes', early);
  await Promise.all(early.map((node) => begin(node, list)));
  proxy.reset();
  const began = performance.now();
  for (const node of early) node.tell('read');
  const reading = new Map(early.map((node) => [node, plan.fault || plan.late ? undefined : read(node)]));
  if (plan.fault || plan.late) {
    await Promise.all(early.map((node) => node.told()));
    const [first, ...others] = early;
    for (const node of others) reading.set(node, read(node));
    if (plan.fault === 'killed') first!.child.kill('SIGKILL');
    else if (plan.fault === 'stopped') first!.child.kill('SIGSTOP');
    else reading.set(first!, read(first!));
    const joining = nodes.slice(early.length);
    listOf('nodes', nodes);
    await Promise.all(joining.map((node) => begin(node, list)));
    for (const node of joining) {
      node.tell('read');
      reading.set(node, read(node));
    }
  }
  const reports = await Promise.all([...reading.values()].filter((report) => report !== undefined));
  const result: Result = {
    datasetBytes: plan.files * plan.fileBytes,
    seconds: (performance.now() - began) / 1000,
    bucketBytes: proxy.total('GetObject').received,
    reports,
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
} finally {
  for (const child of children) child.kill('SIGKILL');
  rmSync(top, { recursive: true, force: true, maxRetries: 5 });
}
