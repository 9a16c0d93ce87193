import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type FreshFilesystem, freshXfs } from '../../bench/filesystem.ts';
import { startBreakingProxy } from '../support/breaking-proxy.ts';
import { createRandom, type Random } from '../support/random.ts';
import { startS3Server } from '../support/s3-server.ts';
import { BUCKET_FAULTS } from './bucket-faults.ts';
import { writeVersions } from './dataset.ts';
import { descriptorsOf, hiddenBytes, loopsBelow, mountsBelow, processesOf } from './leaks.ts';
import { SoakNode } from './node.ts';
import { NODE_FAULTS, SMALL_NODE_FAULTS } from './node-faults.ts';
import { createPeers } from './peers.ts';
import type { ReadFailure } from './reader-protocol.ts';

export interface SoakOptions {
  readonly seed: number;
  /** How long faults go on, in milliseconds. */
  readonly duration: number;
  readonly nodes?: number;
  readonly log: (line: string) => void;
}

export interface SoakReport {
  readonly reads: number;
  readonly bytes: number;
  /** What a read took at most, in milliseconds. */
  readonly longest: number;
  /** Reads that ended with an error where one may. */
  readonly excused: Readonly<Record<string, number>>;
  /** How often each fault was done. */
  readonly faults: Readonly<Record<string, number>>;
  /** What must not be. */
  readonly violations: readonly string[];
}

/** What the nodes are set to, in milliseconds. */
const DEADLINE = 8_000;
/** A read may be late by this much on a machine that is busy. */
const GRACE = 25_000;
/** Errors that a read may end with while it cannot be served. */
const ERRORS = ['EIO', 'ENOTCONN', 'ECONNABORTED'];
/** How long faults go on until all are taken back and everything must be right, in milliseconds. */
const SPELL = 45_000;
/** A file system's own blocks, and what it sets aside for files that grow. */
const HIDDEN = 96 * 2 ** 20;
/** Less than a version has. */
const SMALL_CACHE = '60M';
/** Of a daemon with nothing under way. */
const DESCRIPTORS = 200;

/**
 * Nodes read a dataset from one bucket while everything around them breaks. The seed decides what happens in which order; how far it comes in its
 * time is the machine's.
 */
export async function runSoak({ seed, duration, nodes: count = 2, log }: SoakOptions): Promise<SoakReport> {
  const began = Date.now();
  const note = (text: string) => log(`${((Date.now() - began) / 1000).toFixed(1).padStart(7)} s  ${text}`);
  const violations: string[] = [];
  const violate = (text: string) => {
    violations.push(`${((Date.now() - began) / 1000).toFixed(1)} s: ${text}`);
    note(`WRONG: ${text}`);
  };
  const faults: Record<string, number> = {};
  const excused: Record<string, number> = {};
  /** When reads may fail: in milliseconds since 1970. */
  const excuses: { readonly node: string | undefined; readonly from: number; to: number }[] = [];
  const excuse = (node: string | undefined) => {
    const one = { node, from: Date.now(), to: Number.POSITIVE_INFINITY };
    excuses.push(one);
    return {
      [Symbol.dispose]: () => {
        one.to = Date.now() + DEADLINE + 2_000;
      },
    };
  };
  const failed = (node: string, failure: ReadFailure) => {
    const { code = '', file, directory, began: from, ended } = failure;
    const covered = excuses.some(
      (one) => (one.node === undefined || one.node === node) && one.from <= ended && from <= one.to,
    );
    if (!failure.wrong && ERRORS.includes(code) && covered) excused[code] = (excused[code] ?? 0) + 1;
    else violate(`${directory}/${file}: ${failure.text} (read for ${ended - from} ms)`);
  };

  await using stack = new AsyncDisposableStack();
  const directory = mkdtempSync(join(tmpdir(), 'larder-soak-'));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  const versions = writeVersions(join(directory, 'sources'), seed);
  const server = stack.use(await startS3Server());
  const proxy = stack.use(await startBreakingProxy(server.endpoint));
  const repository = proxy.location(await server.location('soak'));

  const peers = await createPeers(directory, count);
  const random = createRandom(seed);
  const nodes: {
    readonly node: SoakNode;
    readonly filesystem: FreshFilesystem;
    readonly hidden: number;
    readonly random: Random;
  }[] = [];
  for (let at = 0; at < count; at += 1) {
    const name = `node-${at + 1}`;
    const filesystem = stack.use(freshXfs(directory, name, 1));
    const node = new SoakNode({
      name,
      directory: filesystem.directory,
      env: {
        LARDER_REPOSITORY: repository,
        LARDER_DEADLINE: `${DEADLINE / 1000}s`,
        LARDER_STREAM_OVER: '4M',
        ...peers.environment(at),
        // The last one has a cache that is too small for what it reads.
        ...(at > 0 && at === count - 1 && { LARDER_CACHE_LIMIT: SMALL_CACHE }),
        NODE_COMPILE_CACHE: join(directory, 'code'),
      },
      readers: { count: 2, seed: seed + at, onFailure: (failure) => failed(name, failure) },
      onDeath: violate,
    });
    stack.defer(async () => {
      await node.readers.close();
      await Promise.all([node.end('daemon', 'SIGKILL'), node.end('keeper', 'SIGKILL')]);
      for (const point of mountsBelow(filesystem.directory).reverse()) execFileSync('umount', ['--lazy', point]);
    });
    nodes.push({ node, filesystem, hidden: hiddenBytes(filesystem.directory), random: createRandom(seed * 100 + at) });
  }

  const [{ node: first }] = nodes as [(typeof nodes)[0]];
  await first.must(['repository', 'init']);
  for (const { tag, source } of versions) await first.must(['import', source, 'soak', '--tag', tag]);
  for (const { node } of nodes) {
    node.start('keeper');
    node.start('daemon');
    await node.ready(60_000);
    await node.mount(versions[0]!);
  }
  note(`seed ${seed}: ${nodes.length} nodes read ${versions.length} versions`);

  const watch = setInterval(() => {
    for (const { node } of nodes) for (const text of node.readers.stuck(DEADLINE + GRACE)) violate(text);
  }, 2_000);
  stack.defer(() => clearInterval(watch));

  const totals = () =>
    nodes.reduce(
      (sum, { node }) => {
        const { reads, bytes, longest } = node.readers.totals();
        return { reads: sum.reads + reads, bytes: sum.bytes + bytes, longest: Math.max(sum.longest, longest) };
      },
      { reads: 0, bytes: 0, longest: 0 },
    );

  const end = Date.now() + duration;
  let spellEnd = 0;
  const spell = async (lane: Random, what: () => Promise<void>) => {
    while (Date.now() < spellEnd) {
      await what();
      await sleep(lane.below(2_500));
    }
  };
  const laneOf = ({ node, random: lane }: (typeof nodes)[0]) =>
    spell(lane, async () => {
      const fault = pickWeighted(lane, node === nodes.at(-1)!.node ? SMALL_NODE_FAULTS : NODE_FAULTS);
      note(`${node.name}: ${fault.name}`);
      faults[fault.name] = (faults[fault.name] ?? 0) + 1;
      using _excuse = fault.excuses ? excuse(node.name) : undefined;
      await fault.run({ node, versions, random: lane, peers, note: (text) => note(`${node.name}: ${text}`) });
    });
  const bucketLane = () =>
    spell(random, async () => {
      const fault = random.pick(BUCKET_FAULTS);
      note(fault.name);
      faults[fault.name] = (faults[fault.name] ?? 0) + 1;
      using _excuse = excuse(undefined);
      await fault.run(proxy, server, random);
    });

  while (Date.now() < end && violations.length === 0) {
    spellEnd = Math.min(end, Date.now() + SPELL);
    await settled([...nodes.map(laneOf), bucketLane()]);
    await sleep(DEADLINE);
    await calm();
  }

  /** Nothing is broken any more: everything must be readable, whole. */
  async function calm(): Promise<void> {
    for (const { node } of nodes) {
      await node.ready(60_000);
      for (const { mounted } of node.mounts.values()) {
        const failures = await node.readers.pass(mounted);
        for (const failure of failures.slice(0, 5)) violate(`when all was well again, ${mounted.directory}/${failure}`);
      }
      const open = descriptorsOf(node.pid('daemon'));
      if (open > DESCRIPTORS) violate(`${node.name}: the daemon has ${open} descriptors open`);
    }
    note(`all is well: ${JSON.stringify(totals())}`);
  }

  if (violations.length > 0) {
    for (const { node } of nodes) {
      for (const name of ['daemon', 'keeper'] as const) log(`${node.name}, ${name}: ${node.log(name)}`);
      // The log has one line a minute of opens that fail; this has the latest.
      log(`${node.name}: ${(await node.larder('status')).stdout}`);
    }
  }
  const read = totals();
  for (const { node, filesystem, hidden } of nodes) {
    node.readers.pause(true);
    for (const point of [...node.mounts.keys()]) await node.unmount(point);
    await node.readers.close();
    await node.end('daemon', 'SIGTERM');
    await node.end('keeper', 'SIGTERM');
    for (const point of mountsBelow(filesystem.directory)) violate(`${point} is left mounted`);
    for (const file of loopsBelow(filesystem.directory)) violate(`a loop device is left on ${file}`);
    for (const process of processesOf(filesystem.directory)) violate(`a process is left: ${process}`);
    for (const name of readdirSync(join(node.cache, 'incoming'))) violate(`${name} is left in incoming/`);
    const more = hiddenBytes(filesystem.directory) - hidden;
    if (more > HIDDEN) violate(`${node.name}: ${more} bytes of its disk are in use by no file`);
  }
  return { ...read, excused, faults, violations };
}

/** All of them to their end; then the first failure is thrown. */
async function settled(lanes: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(lanes)) if (result.status === 'rejected') throw result.reason;
}

function pickWeighted<T extends { readonly weight: number }>(random: Random, values: readonly T[]): T {
  let at = random.below(values.reduce((sum, { weight }) => sum + weight, 0));
  return values.find(({ weight }) => {
    at -= weight;
    return at < 0;
  })!;
}
