import { randomBytes } from 'node:crypto';
import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Digest, sha256 } from '../dataset/digest.ts';
import { UnavailableError } from '../dataset/errors.ts';
import { type Cache, openCache } from './cache.ts';
import { subscribe } from './events.ts';
import { createHealer, type Healer } from './heal.ts';
import { createHydrator, type Hydrator } from './hydrate.ts';
import { type CacheIndex, openIndex } from './index.ts';
import { quarantine } from './quarantine.ts';
import { type ScrubOptions, startScrub } from './scrub.ts';
import { type BuiltVersion, buildVersion, randomFiles, temporaryRepository } from './staged.fixture.ts';

let stack: AsyncDisposableStack;
let cache: Cache;
let index: CacheIndex;
let hydrator: Hydrator;
let healer: Healer;
let version: BuiltVersion;
let released: number;
let told: string[];
let warnings: string[];

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  released = 0;
  told = [];
  warnings = [];
  const { repository, folder } = stack.use(await temporaryRepository());
  cache = stack.use(await openCache({ directory: join(folder, 'cache') }));
  index = stack.use(openIndex(cache));
  hydrator = stack.use(createHydrator({ cache, threads: 1 }));
  const parts = [randomBytes(50_000), 200_000, randomBytes(70_000)];
  version = await buildVersion(repository, { ...randomFiles(20, 3000), parts });
  hydrator.register(version.staged);
  await hydrator.prefetch(version.staged);
  healer = stack.use(
    createHealer({
      cache,
      isWanted: (id) => version.staged.map.has(id),
      hydrate: (id, options) => hydrator.hydrate(id, options),
      release: async () => {
        released += 1;
      },
      onWarning: (message) => warnings.push(message),
    }),
  );
  for (const event of ['damaged', 'healed'] as const)
    stack.defer(
      subscribe(event, (message) => {
        if (message.cache === cache.layout.directory) told.push(`${event} ${message.id}`);
      }),
    );
});
afterEach(() => stack.disposeAsync());

function idOf(path: string): Digest {
  return version.files.get(path)!.id;
}

function flip(path: string): void {
  const file = cache.objectPath(idOf(path));
  const bytes = readFileSync(file);
  bytes[bytes.length - 100]! ^= 1;
  chmodSync(file, 0o644);
  writeFileSync(file, bytes);
}

function scrub(options: Partial<ScrubOptions> = {}) {
  return startScrub({
    cache,
    index,
    healer,
    sources: async () => ({ sources: [version.staged], complete: true }),
    rate: 10 ** 9,
    again: 0,
    delay: 0,
    onWarning: (message) => warnings.push(message),
    ...options,
  });
}

describe('the scrub', () => {
  it('finds a damaged object, puts it aside, and has it brought again', async () => {
    flip('file-000007');
    flip('parts');
    const broken = ['file-000007', 'parts'].map(idOf);
    await using running = scrub();
    await expect.poll(() => told.filter((line) => line.startsWith('healed')).length, { timeout: 10_000 }).toBe(2);
    expect(running.stats()).toMatchObject({ damaged: 2 });
    for (const id of broken) {
      expect(told.indexOf(`damaged ${id}`)).toBeLessThan(told.indexOf(`healed ${id}`));
      expect(readdirSync(cache.layout.quarantine)).toContain(id);
    }
    for (const { id, bytes } of version.files.values()) {
      expect(readFileSync(cache.objectPath(id)).equals(bytes)).toBe(true);
    }
    await healer.settled();
    expect(released).toBeGreaterThanOrEqual(2);
    expect(warnings).toEqual([]);
  });

  it('reads those first whose last check is longest ago, and nothing that was checked lately', async () => {
    const now = Date.now();
    const order = [...version.files.values()].map(({ id }) => id);
    for (const [at, id] of order.entries()) index.markVerified(id, now - 1000 + at);
    // Checked within the time in which none is read again.
    for (const id of order.slice(10)) index.markVerified(id, now + 1_000_000);
    const checked: Digest[] = [];
    const watched: CacheIndex = {
      ...index,
      markVerified: (id, at) => {
        checked.push(id);
        index.markVerified(id, at);
      },
    };
    await using running = scrub({ index: watched });
    await expect.poll(() => checked.length, { timeout: 10_000 }).toBeGreaterThanOrEqual(10);
    expect(checked.slice(0, 10)).toEqual(order.slice(0, 10));
    expect(checked.some((id) => order.indexOf(id) >= 10)).toBe(false);
    expect(running.stats().oldest).toBeGreaterThan(now - 1001);
  });

  it('keeps to its rate', async () => {
    const started = performance.now();
    await using running = scrub({ rate: 100_000 });
    await expect.poll(() => running.stats().objects, { timeout: 10_000 }).toBeGreaterThanOrEqual(10);
    // Ten of 3,000 bytes, and what each costs besides.
    expect((performance.now() - started) / 1000).toBeGreaterThan((9 * 3000) / 100_000);
  });

  it('leaves an object alone that nobody can tell about, as long as a version could not be asked', async () => {
    const id = sha256('some file of parts');
    const writer = cache.writer();
    const file = writer.begin(id, 8);
    file.write(Buffer.from('whatever'), 0);
    file.finish(8);
    writer.close();
    let complete = false;
    let rounds = 0;
    await using _running = scrub({
      sources: async () => {
        rounds += 1;
        return { sources: [version.staged], complete };
      },
    });
    await expect.poll(() => rounds, { timeout: 10_000 }).toBeGreaterThanOrEqual(2);
    expect(cache.has(id)).toBe(true);
    complete = true;
    await expect.poll(() => cache.has(id), { timeout: 10_000 }).toBe(false);
  });

  it('asks again before it removes an object: its version may have been staged since the round began', async () => {
    let rounds = 0;
    await using running = scrub({
      sources: async () => {
        rounds += 1;
        return { sources: rounds % 2 === 1 ? [] : [version.staged], complete: true };
      },
    });
    await expect.poll(() => running.stats().objects, { timeout: 10_000 }).toBeGreaterThanOrEqual(21);
    expect(cache.has(idOf('parts'))).toBe(true);
    expect(index.get(idOf('parts'))!.verified).toBeGreaterThan(0);
  });

  it('goes on past what cannot be told while the repository is away, and comes back to it', async () => {
    flip('file-000003');
    const { repository } = version.staged;
    let away = true;
    const get: typeof repository.bucket.get = (key, options) =>
      away ? Promise.reject(new UnavailableError('the bucket is away')) : repository.bucket.get(key, options);
    const source = { ...version.staged, repository: { ...repository, bucket: { ...repository.bucket, get } } };
    await using running = scrub({ sources: async () => ({ sources: [source], complete: true }) });
    await expect.poll(() => running.stats().objects, { timeout: 10_000 }).toBeGreaterThanOrEqual(19);
    expect(cache.has(idOf('file-000003'))).toBe(true);
    expect(warnings.some((line) => line.includes('the bucket is away'))).toBe(true);
    away = false;
    await expect.poll(() => told, { timeout: 10_000 }).toContain(`healed ${idOf('file-000003')}`);
  });
});

describe('the quarantine', () => {
  it('keeps the latest hundred', () => {
    const writer = cache.writer();
    const ids = Array.from({ length: 120 }, (_, at) => sha256(`object ${at}`));
    for (const id of ids) writer.put(id, Buffer.from('x'));
    writer.close();
    for (const id of ids) expect(quarantine(cache, id)).toBe(true);
    expect(readdirSync(cache.layout.quarantine)).toHaveLength(100);
    expect(readdirSync(cache.layout.quarantine)).toContain(ids.at(-1));
    expect(quarantine(cache, ids[0]!)).toBe(false);
  });
});
