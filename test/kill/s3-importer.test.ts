import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkout } from '../../dataset/checkout.ts';
import { describeTree, noise } from '../../dataset/import/test-tree.ts';
import { readBranch } from '../../dataset/refs.ts';
import { initRepository, type Repository } from '../../dataset/repository.ts';
import { verifyRepository } from '../../dataset/verify.ts';
import { readVersion } from '../../dataset/version.ts';
import { type BreakingProxy, type Fault, randomFaults, startBreakingProxy } from '../support/breaking-proxy.ts';
import { collect } from '../support/collect.ts';
import { createRandom } from '../support/random.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from '../support/s3-server.ts';

const KILLS = 30;
const seed = Number(process.env.LARDER_TEST_SEED ?? Date.now() % 1_000_000);
/** One request in so many is broken. */
const EVERY = 8;
/** What can be done to a write. */
const WRITTEN: readonly Fault['kind'][] = ['latency', 'error', 'slow-down', 'refuse', 'cut-upload', 'lose-answer'];
const KINDS: readonly Fault['kind'][] = [...WRITTEN, 'reset', 'truncate', 'shorten', 'stall', 'wrong-range'];

const importer = join(import.meta.dirname, 's3-importer-child.ts');

let server: S3Server;
let proxy: BreakingProxy;
let top: string;
let source: string;
let repository: Repository;

beforeAll(async () => {
  if (!hasS3Server) return;
  server = await startS3Server();
  proxy = await startBreakingProxy(server.endpoint);
  top = fs.mkdtempSync(join(tmpdir(), 'larder-kill-s3-import-'));
  process.env.LARDER_STATE = join(top, 'state');
  source = join(top, 'source');
  for (let i = 0; i < 300; i++) {
    fs.mkdirSync(join(source, `d${i % 12}`), { recursive: true });
    fs.writeFileSync(join(source, `d${i % 12}`, `f${i}`), noise(2_000 + (i % 50) * 200, i + 1));
  }
  fs.writeFileSync(join(source, 'large'), noise(3 << 20, 99));
  repository = await initRepository(await server.location('killed'));
}, S3_SERVER_TIMEOUT);

afterAll(async () => {
  if (!hasS3Server) return;
  delete process.env.LARDER_STATE;
  await repository?.bucket.close();
  await proxy?.close();
  await server?.close();
  fs.rmSync(top, { recursive: true, force: true });
});

interface Ended {
  readonly how: 'done' | 'killed' | 'failed';
  /** From when it began to work, in milliseconds. */
  readonly took: number;
  readonly said: string;
}

/** Runs an import by way of the proxy in a process of its own, which is killed so many milliseconds after it began to work. */
async function importFor(milliseconds: number): Promise<Ended> {
  const child = spawn(process.execPath, [importer, proxy.location(repository.location), source, 'birds'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_COMPILE_CACHE: join(top, 'compiled') },
  });
  let said = '';
  for (const output of [child.stdout, child.stderr])
    output.on('data', (data) => {
      said += data;
    });
  const ended = once(child, 'exit') as Promise<[number | null, string | null]>;
  await Promise.race([once(child.stdout, 'data'), ended]);
  const began = performance.now();
  const timer = setTimeout(() => child.kill('SIGKILL'), milliseconds);
  const [code, signal] = await ended;
  clearTimeout(timer);
  const took = performance.now() - began;
  if (signal === 'SIGKILL') return { how: 'killed', took, said };
  if (code === 0) return { how: 'done', took, said };
  // Anything else than an error of ours is a fault.
  if (code !== 3) throw new Error(`the importer failed (seed ${seed}): ${said}`);
  return { how: 'failed', took, said };
}

async function head(): Promise<string | undefined> {
  return (await readBranch(repository, 'birds', 'main'))?.version;
}

describe.skipIf(!hasS3Server)('an importer to S3 that is killed at any moment, with a network that fails', () => {
  it('leaves the old version or the new one, whole either way, and the next import completes', async () => {
    console.log(`seed ${seed} (LARDER_TEST_SEED repeats it)`);
    const random = createRandom(seed);
    expect((await importFor(120_000)).how).toBe('done');
    proxy.plan = randomFaults(createRandom(seed + 1), { every: EVERY, kinds: KINDS });
    let killed = 0;
    let moved = 0;
    const failures: string[] = [];
    // As long as an import takes on this machine now: it is found by those that end, and those that are killed make it longer.
    let span = 600;
    let expected = await head();
    for (let round = 1; killed < KILLS; round++) {
      for (let i = 0; i < 15; i++) {
        const path = join(source, `d${random.below(12)}`, `f${random.below(400)}`);
        if (random.oneIn(4)) fs.rmSync(path, { force: true });
        else fs.writeFileSync(path, noise(1_000 + random.below(8_000), round * 1000 + i + 1));
      }
      if (round % 7 === 0) fs.writeFileSync(join(source, 'large'), noise(2 << 20, round + 1));
      const { how, took, said } = await importFor((span * random.below(1000)) / 1000);
      const now = await head();
      if (how === 'killed') {
        killed++;
        span *= 1.15;
        if (now !== expected) moved++;
        if (killed % 5 === 0)
          expect(await collect(verifyRepository(repository, { deep: killed % 15 === 0 }))).toEqual([]);
      } else if (how === 'done') {
        span = (span + took) / 2;
        expect(now, said).not.toBe(expected);
      } else failures.push(said);
      expected = now;
    }
    const faults = WRITTEN.map((kind) => proxy.faults.get(kind) ?? 0);
    const broken = faults.reduce((sum, count) => sum + count, 0);
    console.log(
      `${killed} killed, ${moved} of them after they published; ${failures.length} gave up; ${broken} requests broken`,
    );
    // Whoever meets eight broken requests in a row is told what was asked of whom.
    for (const failure of failures) expect(failure).toMatch(new RegExp(`^begins\nunavailable: .*${proxy.endpoint}`));
    expect(broken).toBeGreaterThan(0);

    proxy.plan = () => undefined;
    fs.writeFileSync(join(source, 'the last'), 'change');
    expect((await importFor(120_000)).how).toBe('done');
    expect(await collect(verifyRepository(repository, { deep: true }))).toEqual([]);
    const target = join(top, 'out');
    const { root } = await readVersion(repository, (await readBranch(repository, 'birds', 'main'))!.version);
    await checkout(repository, root, target);
    expect(describeTree(target)).toEqual(describeTree(source));
  }, 600_000);
});
