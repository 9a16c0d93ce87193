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
import { killRounds, spreadMoments } from '../support/kills.ts';
import { createRandom } from '../support/random.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from '../support/s3-server.ts';

const KILLS = killRounds(12);
const seed = Number(process.env.LARDER_TEST_SEED ?? Date.now() % 1_000_000);
/** One request in so many is broken. */
const EVERY = 8;
/** What can be done to a write. */
const WRITTEN: readonly Fault['kind'][] = ['latency', 'error', 'slow-down', 'refuse', 'cut-upload', 'lose-answer'];
const KINDS: readonly Fault['kind'][] = [...WRITTEN, 'reset', 'truncate', 'shorten', 'stall', 'wrong-range'];

const importer = join(import.meta.dirname, 'importer-child.ts');

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

/**
 * Runs an import by way of the proxy in a process of its own, which is killed right before or after it stores an object (as of `dieAtPut`), or so many
 * milliseconds after it began to work.
 */
async function importUntil({ put = '0', milliseconds = 120_000 }: { put?: string; milliseconds?: number } = {}) {
  const child = spawn(process.execPath, [importer, proxy.location(repository.location), source, 'birds', put], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const output of [child.stdout, child.stderr])
    output.on('data', (data) => {
      said += data;
    });
  const ended = once(child, 'close') as Promise<[number | null, string | null]>;
  await Promise.race([once(child.stdout, 'data'), ended]);
  const began = performance.now();
  const timer = setTimeout(() => child.kill('SIGKILL'), milliseconds);
  const [code, signal] = await ended;
  clearTimeout(timer);
  const how = signal === 'SIGKILL' ? 'killed' : code === 0 ? 'done' : 'failed';
  // Anything else than an error of ours is a fault.
  if (how === 'failed' && code !== 3) throw new Error(`the importer failed (seed ${seed}): ${said}`);
  const stored = how === 'done' ? Number(said.trim().split('\n').at(-1)) : undefined;
  return { how, took: performance.now() - began, said, stored } as const;
}

async function head(): Promise<string | undefined> {
  return (await readBranch(repository, 'birds', 'main'))?.version;
}

describe.skipIf(!hasS3Server)('an importer to S3 that is killed at any moment, with a network that fails', () => {
  it('leaves the old version or the new one, whole either way, and the next import completes', async () => {
    console.log(`seed ${seed} (LARDER_TEST_SEED repeats it)`);
    const random = createRandom(seed);
    expect((await importUntil()).how).toBe('done');
    const change = (round: number) => {
      for (let i = 0; i < 15; i++) {
        const path = join(source, `d${random.below(12)}`, `f${random.below(400)}`);
        if (random.oneIn(4)) fs.rmSync(path, { force: true });
        else fs.writeFileSync(path, noise(1_000 + random.below(8_000), round * 1000 + i + 1));
      }
      if (round % 7 === 0) fs.writeFileSync(join(source, 'large'), noise(2 << 20, round + 1));
    };
    change(1);
    let { took: span, stored: puts } = await importUntil();
    proxy.plan = randomFaults(createRandom(seed + 1), { every: EVERY, kinds: KINDS });
    let killed = 0;
    let moved = 0;
    const failures: string[] = [];
    const [puttingAt, timeAt] = [spreadMoments(), spreadMoments()];
    let expected = await head();
    for (let round = 2; killed < KILLS; round++) {
      change(round);
      // By turns at what it stores, and whenever it may be.
      const { how, took, said, stored } = await importUntil(
        round % 2 === 0
          ? { put: `${1 + Math.floor(puttingAt() * puts!)}${round % 4 === 0 ? '' : '+'}` }
          : { milliseconds: span * timeAt() },
      );
      const now = await head();
      if (how === 'killed') {
        killed++;
        // As long as an import takes on this machine now: it is found by those that end, and those that are killed make it longer.
        span *= 1.1;
        if (now !== expected) moved++;
        if (killed % 3 === 0)
          expect(await collect(verifyRepository(repository, { deep: killed % 6 === 0 }))).toEqual([]);
      } else if (how === 'done') {
        span = (span + took) / 2;
        puts = stored;
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
    expect((await importUntil()).how).toBe('done');
    expect(await collect(verifyRepository(repository, { deep: true }))).toEqual([]);
    const target = join(top, 'out');
    const { root } = await readVersion(repository, (await readBranch(repository, 'birds', 'main'))!.version);
    await checkout(repository, root, target);
    expect(describeTree(target)).toEqual(describeTree(source));
  }, 600_000);
});
