import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openCache } from '../../cache/cache.ts';
import { createHydrator } from '../../cache/hydrate.ts';
import { layoutOf } from '../../cache/layout.ts';
import { type BuiltVersion, buildVersion, type FileOf, stage } from '../../cache/staged.fixture.ts';
import { bytesOf } from '../../dataset/byte-string.ts';
import { LarderError } from '../../dataset/errors.ts';
import { findEntry } from '../../dataset/manifest.ts';
import { readFile } from '../../dataset/read-file.ts';
import { initRepository, type Repository } from '../../dataset/repository.ts';
import { type BreakingProxy, type Fault, randomFaults, startBreakingProxy } from '../support/breaking-proxy.ts';
import { collect } from '../support/collect.ts';
import { openImpatiently } from '../support/impatient.ts';
import { killRounds, spreadMoments } from '../support/kills.ts';
import { createRandom } from '../support/random.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from '../support/s3-server.ts';

const seed = Number(process.env.LARDER_TEST_SEED ?? Date.now() % 1_000_000);
const KILLS = killRounds(6);
const allowed = { timeout: 600_000 };
/** What can be done to an answer's body. */
const BROKEN: readonly Fault['kind'][] = ['reset', 'truncate', 'stall', 'flip', 'shorten', 'wrong-range'];
const KINDS: readonly Fault['kind'][] = [...BROKEN, 'latency', 'error', 'slow-down', 'refuse'];

let server: S3Server;
let proxy: BreakingProxy;
let top: string;
let repository: Repository;
let version: BuiltVersion;

beforeAll(async () => {
  if (!hasS3Server) return;
  console.log(`seed ${seed} (LARDER_TEST_SEED repeats it)`);
  server = await startS3Server();
  proxy = await startBreakingProxy(server.endpoint);
  top = mkdtempSync(join(tmpdir(), 'larder-kill-s3-hydrator-'));
  process.env.LARDER_STATE = join(top, 'state');
  repository = await initRepository(await server.location('read'));
  const random = createRandom(seed);
  const files: Record<string, FileOf> = {};
  for (let at = 0; at < 150; at++) files[`small-${at}`] = random.bytes(500 + random.below(60_000));
  for (let at = 0; at < 4; at++)
    files[`large-${at}`] = [random.bytes(400_000), 700_000, ...Array.from({ length: 5 }, () => random.bytes(300_000))];
  version = await buildVersion(repository, files, { target: 700_000 });
}, S3_SERVER_TIMEOUT);

beforeEach(() => {
  if (proxy) proxy.plan = () => undefined;
});

afterAll(async () => {
  if (!hasS3Server) return;
  delete process.env.LARDER_STATE;
  await repository?.bucket.close();
  await proxy?.close();
  await server?.close();
  rmSync(top, { recursive: true, force: true });
});

/** Fails where a file below objects/ or late/ is not what its name says. @returns how many objects there are */
function checkObjects(directory: string): number {
  const bytesById = new Map([...version.files.values()].map(({ id, bytes }) => [id as string, bytes]));
  const { objects, late } = layoutOf(directory);
  let count = 0;
  for (const folder of [objects, late])
    for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const bytes = readFileSync(join(entry.parentPath, entry.name));
      expect(bytesById.get(entry.name)?.equals(bytes), `${entry.name}, ${bytes.length} bytes (seed ${seed})`).toBe(
        true,
      );
      if (folder === objects) count += 1;
    }
  return count;
}

/** An error that tells what cannot be read and of whom it was asked. */
function expectTelling(error: unknown): void {
  expect(error).toBeInstanceOf(LarderError);
  expect((error as LarderError).kind, String(error)).toMatch(/^(unavailable|corrupt)$/);
  expect((error as Error).message, String(error)).toMatch(/(pack|chunk|segment|locations|read|http:)/);
}

describe.skipIf(!hasS3Server)('reading from S3 over a network that fails', () => {
  it(
    'gives every byte of a file as it is, or an error, and all of it when the network is well again',
    allowed,
    async () => {
      proxy.plan = randomFaults(createRandom(seed + 1), { every: 3, kinds: KINDS });
      const random = createRandom(seed + 2);
      const broken = await openImpatiently(proxy.location(repository.location));
      const { root } = version.staged;
      let right = 0;
      const read = async (path: string, options: object) => {
        const entry = await findEntry(broken, root, bytesOf(path));
        if (entry?.type !== 'file') throw new Error(`there is no ${path}`);
        return Buffer.concat(await collect(readFile(broken, entry, { root, ...options })));
      };
      const paths = [...version.files.keys()].filter((path) => path.startsWith('large') || random.oneIn(3));
      await Promise.all(
        paths.map(async (path) => {
          const { bytes } = version.files.get(path)!;
          const offset = random.below(bytes.length);
          const length = 1 + random.below(bytes.length - offset);
          for (const [options, expected] of [
            [{}, bytes],
            [{ range: { offset, length } }, bytes.subarray(offset, offset + length)],
          ] as const) {
            const got = await read(path, options).catch((error: unknown) => error);
            if (Buffer.isBuffer(got)) {
              expect(got.equals(expected), `${path} (seed ${seed})`).toBe(true);
              right += 1;
            } else expectTelling(got);
          }
        }),
      );
      expect(right).toBeGreaterThan(paths.length / 2);
      for (const kind of BROKEN) expect(proxy.faults.get(kind), `${kind} (seed ${seed})`).toBeGreaterThan(0);
      proxy.plan = () => undefined;
      for (const path of paths) expect((await read(path, {})).equals(version.files.get(path)!.bytes)).toBe(true);
      await broken.bucket.close();
    },
  );

  it('hydrates whole objects or none, and all of them when the network is well again', allowed, async () => {
    proxy.plan = randomFaults(createRandom(seed + 3), { every: 3, kinds: KINDS });
    const broken = await openImpatiently(proxy.location(repository.location));
    const directory = join(top, 'cache');
    await using cache = await openCache({ directory });
    await using hydrator = createHydrator({ cache, threads: 2, patience: 3000 });
    const staged = await stage(repository, version.staged.root);
    const through = { ...staged, repository: broken };
    hydrator.register(through);
    const ids = [...new Set([...version.files.values()].map(({ id }) => id))];
    let right = 0;
    for (let round = 0; round < 3; round++) {
      const outcomes = await Promise.allSettled(ids.map((id) => hydrator.hydrate(id)));
      const failed = outcomes.filter((outcome) => outcome.status === 'rejected');
      for (const { reason } of failed) expectTelling(reason);
      expect(checkObjects(directory)).toBe(ids.length - failed.length);
      right += ids.length - failed.length;
      for (const id of ids) cache.remove(id);
    }
    expect(right).toBeGreaterThan(ids.length);
    proxy.plan = () => undefined;
    await hydrator.prefetch(through);
    expect(checkObjects(directory)).toBe(ids.length);
    await broken.bucket.close();
  });

  it('shows no short or wrong object when it is also killed, and the next run finishes', allowed, async () => {
    const kinds = KINDS.filter((kind) => kind !== 'stall');
    proxy.plan = randomFaults(createRandom(seed + 4), { every: 6, kinds });
    const moment = spreadMoments();
    const directory = join(top, 'cache-killed');
    const child = join(import.meta.dirname, 'hydrator-child.ts');
    const run = (mode?: string) => {
      const running = spawn(
        process.execPath,
        [child, proxy.location(repository.location), version.staged.root, directory, ...(mode ? [mode] : [])],
        { stdio: ['ignore', 'pipe', 'pipe'] },
      );
      let complaint = '';
      running.stderr.on('data', (data) => {
        complaint += data;
      });
      const ended = once(running, 'exit') as Promise<[number | null, string | null]>;
      return { running, ended, complaint: () => complaint };
    };
    const seen: number[] = [];
    for (let kill = 0; kill < KILLS; kill++) {
      const { running, ended } = run();
      // It may also fail by itself before it has anything: the faults go on.
      await Promise.race([once(running.stdout, 'data'), ended]);
      await new Promise((resolve) => setTimeout(resolve, moment() * 150));
      running.kill('SIGKILL');
      await ended;
      seen.push(checkObjects(directory));
    }
    proxy.plan = () => undefined;
    const { ended, complaint } = run('once');
    expect((await ended)[0], complaint()).toBe(0);
    const all = new Set([...version.files.values()].map(({ id }) => id)).size;
    expect(checkObjects(directory)).toBe(all);
    expect(seen.some((count) => count > 0 && count < all)).toBe(true);
  });
});
