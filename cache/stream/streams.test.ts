import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, readSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CorruptError, UnavailableError } from '../../dataset/errors.ts';
import { packKey } from '../../dataset/keys.ts';
import { createRandom } from '../../test/support/random.ts';
import { subscribe } from '../events.ts';
import {
  expectLocalRight,
  partsOf,
  type RigOptions,
  readAtRandom,
  readInOrder,
  type StreamRig,
  streamRig,
  until,
} from './streams.fixture.ts';

const MIB = 1024 * 1024;

let stack: AsyncDisposableStack;
beforeEach(() => {
  stack = new AsyncDisposableStack();
});
afterEach(() => stack.disposeAsync());

async function rigOf(...args: Parameters<typeof streamRig>): Promise<StreamRig> {
  return stack.use(await streamRig(...args));
}

const readAt = (descriptor: number, into: Buffer, position: number) => {
  expect(readSync(descriptor, into, 0, into.length, position)).toBe(into.length);
};

/** A file of chunks of one size. */
function chunks(count: number, bytes: number): Buffer[] {
  return Array.from({ length: count }, () => randomBytes(bytes));
}

const partials = (rig: StreamRig) => readdirSync(join(rig.cache.layout.directory, 'partial'));
const packReads = (rig: StreamRig) => rig.bucket.readsOf('packs/');

describe('a large object that is read while it is fetched', () => {
  it.each([
    { about: 'on the disk', seed: 11, options: {} },
    { about: 'in memory, where there is no room', seed: 12, options: { roomBytes: 0, memory: 2 * MIB } },
    { about: 'in part on the disk, where room ends', seed: 13, options: { roomBytes: 3 * MIB, memory: MIB } },
  ] satisfies { about: string; seed: number; options: RigOptions }[])(
    'gives every byte right to several readers at a time, $about',
    async ({ seed, options }) => {
      const random = createRandom(seed);
      const rig = await rigOf(
        { large: partsOf(random, 60, 300_000), other: partsOf(random, 9, 400_000), holes: [9 * MIB] },
        options,
        { target: 2 * MIB },
      );
      const readers = ['large', 'large', 'large', 'other', 'holes'].map(async (path, at) => {
        const file = await rig.open(path);
        await readAtRandom(file, rig.bytes(path), createRandom(seed * 100 + at), 60);
        expectLocalRight(file, rig.bytes(path), readAt);
        if (at % 2 === 0) await readInOrder(file, rig.bytes(path), 1 + random.below(700_000));
        expectLocalRight(file, rig.bytes(path), readAt);
        file.close();
      });
      await Promise.all(readers);
      expect(rig.streams.stats().memoryBytes).toBeLessThanOrEqual(64 * MIB);
      expect(rig.warnings).toEqual([]);
    },
  );

  it('fetches its head only, where only that is read', async () => {
    const rig = await rigOf({ large: chunks(100, 256 * 1024) });
    const file = await rig.open('large');
    expect(file.size).toBe(25 * MIB);
    await file.read(0, 4096);
    await file.read(24 * MIB, 4096);
    expect(packReads(rig)).toBe(2);
    expect(rig.bucket.bytesRead).toBeLessThan(MIB);
    file.close();
  });

  it('is fetched ahead of who reads it in order, further and further, and of two readers at two places', async () => {
    const rig = await rigOf({ large: chunks(100, 256 * 1024) });
    const file = await rig.open('large');
    const fetched = async (offset: number) => {
      await file.read(offset, 128 * 1024);
      await until(() => rig.streams.stats().fetches.running === 0);
      return packReads(rig);
    };
    expect(await fetched(0)).toBe(1);
    expect(await fetched(128 * 1024)).toBe(3);
    expect(await fetched(256 * 1024)).toBe(5);
    const before = await fetched(384 * 1024);
    expect(before).toBe(6);
    expect(await fetched(12 * MIB)).toBe(before + 1);
    expect(await fetched(12 * MIB + 128 * 1024)).toBe(before + 3);
    await readInOrder(file, rig.bytes('large').subarray(0, 4 * MIB), 128 * 1024);
    expect(packReads(rig)).toBeGreaterThan(before + 10);
    file.close();
  });

  it('is met again where another thread has read on by itself up to what was fetched ahead', async () => {
    const rig = await rigOf({ large: chunks(60, 256 * 1024) });
    const file = await rig.open('large');
    const { local } = file;
    const bits = new Uint8Array(local!.present);
    let here = 0;
    // As the reading thread does: what it finds it answers, and asks for the rest.
    for (let offset = 0; offset < file.size; offset += local!.block) {
      const block = offset / local!.block;
      if (Atomics.load(bits, block >>> 3) & (1 << (block & 7))) continue;
      here += 1;
      await file.read(offset, local!.block);
      await until(() => rig.streams.stats().fetches.running === 0);
    }
    expect(here).toBeLessThanOrEqual(62);
    expect(here).toBeGreaterThanOrEqual(60);
    file.close();
  });

  it('asks the bucket once for what many read at a time', async () => {
    const rig = await rigOf({ large: chunks(4, 300_000) });
    const file = await rig.open('large');
    const reads = Array.from({ length: 50 }, (_, at) => file.read(at * 1000, 4000));
    for (const [at, got] of (await Promise.all(reads)).entries()) {
      expect(Buffer.compare(got, rig.bytes('large').subarray(at * 1000, at * 1000 + 4000))).toBe(0);
    }
    expect(packReads(rig)).toBe(1);
    file.close();
  });

  it('becomes the object when all of it was read, and its later opens are of a plain file', async () => {
    const rig = await rigOf({ large: partsOf(createRandom(5), 30, 200_000) });
    const { id } = rig.version.files.get('large')!;
    const told: number[] = [];
    stack.defer(subscribe('streamed', ({ bytes }) => told.push(bytes)));
    expect(await rig.hydrator.hydrate(id)).toBe('stream');
    const file = await rig.open('large');
    expect(file.whole()).toBeUndefined();
    await readInOrder(file, rig.bytes('large'), 100_000);
    expect(told.reduce((sum, bytes) => sum + bytes, 0)).toBe(file.size);
    await until(() => file.whole() !== undefined);
    expect(readFileSync(file.whole()!).equals(rig.bytes('large'))).toBe(true);
    expect(statSync(file.whole()!).mode & 0o7777).toBe(0o444);
    expect(await rig.hydrator.hydrate(id)).toBe('ready');
    await until(() => partials(rig).length === 0);
    expect(rig.streams.stats().diskBytes).toBe(0);
    await readAtRandom(file, rig.bytes('large'), createRandom(6), 20);
    file.close();
    const again = await rig.open('large');
    expect(again.whole()).toBe(file.whole());
    rig.cache.remove(id);
    await readInOrder(again, rig.bytes('large'), 300_000);
    expectLocalRight(again, rig.bytes('large'), readAt);
    again.close();
  });

  it('is read from the object that somebody else brings meanwhile', async () => {
    const rig = await rigOf({ large: chunks(10, 200_000) });
    const file = await rig.open('large');
    await file.read(0, 10);
    await rig.hydrator.prefetch(rig.version.staged);
    expect(partials(rig)).toEqual([]);
    const reads = packReads(rig);
    await readInOrder(file, rig.bytes('large'), 70_000);
    expect(packReads(rig)).toBe(reads);
    expectLocalRight(file, rig.bytes('large'), readAt);
    file.close();
  });

  it('takes no more than what it may hold of memory, and leaves nothing on a disk without room', async () => {
    const rig = await rigOf({ large: chunks(40, 256 * 1024) }, { roomBytes: 0, memory: 2 * MIB, inFlight: MIB });
    const file = await rig.open('large');
    expect(file.local).toBeUndefined();
    for (let offset = 0; offset < file.size; offset += 64 * 1024) {
      await file.read(offset, 64 * 1024);
      const { memoryBytes, fetches } = rig.streams.stats();
      expect(memoryBytes).toBeLessThanOrEqual(2 * MIB);
      expect(fetches.bytesInFlight).toBeLessThanOrEqual(MIB);
    }
    expect(partials(rig)).toEqual([]);
    // What is fetched ahead is read before it is dropped.
    expect(packReads(rig)).toBe(40);
    file.close();
  });

  it('goes on where it ended, on the disk, when room has come', async () => {
    let room = false;
    const rig = await rigOf({ large: chunks(8, 200_000) }, { roomBytes: 0, makeRoom: async () => room });
    const file = await rig.open('large');
    await file.read(0, 10);
    expect(partials(rig)).toEqual([]);
    file.close();
    room = true;
    await rig.restart({});
    const again = await rig.open('large');
    await readInOrder(again, rig.bytes('large'), 50_000);
    await until(() => again.whole() !== undefined);
    again.close();
  });
});

describe('a read that fails', () => {
  it('names the damaged chunk, is the only one that fails, and the next tries again', async () => {
    const parts = chunks(6, 200_000);
    const rig = await rigOf({ large: parts });
    const pack = join(rig.version.staged.repository.location, packKey(rig.version.packs[0]!));
    const good = readFileSync(pack);
    const bad = Buffer.from(good);
    bad[bad.indexOf(parts[3]!) + 5]! ^= 1;
    const file = await rig.open('large');
    writeFileSync(pack, bad);
    const failed = file.read(3 * 200_000 + 10, 100);
    await expect(failed).rejects.toThrow(CorruptError);
    await expect(failed).rejects.toMatchObject({ facts: { chunk: expect.stringMatching(/^[0-9a-f]{64}$/) } });
    expect(Buffer.compare(await file.read(0, 500_000), rig.bytes('large').subarray(0, 500_000))).toBe(0);
    writeFileSync(pack, good);
    expect(Buffer.compare(await file.read(700_000, 100), rig.bytes('large').subarray(700_000, 700_100))).toBe(0);
    file.close();
  });

  it('is of no consequence for others when its reader is interrupted, and ends the fetch when nobody else waits', async () => {
    const rig = await rigOf({ large: chunks(6, 200_000) });
    const file = await rig.open('large');
    const gate = Promise.withResolvers<void>();
    rig.bucket.before = (key) => (key.startsWith('packs/') ? gate.promise : undefined);
    const one = new AbortController();
    const two = new AbortController();
    const first = file.read(0, 10, one.signal);
    const second = file.read(5, 10, two.signal);
    await until(() => rig.streams.stats().fetches.running === 1);
    one.abort(new Error('killed'));
    await expect(first).rejects.toThrow('killed');
    expect(rig.streams.stats().fetches.running).toBe(1);
    two.abort(new Error('killed too'));
    await expect(second).rejects.toThrow('killed too');
    // What was called off for them has not ended yet.
    const third = file.read(0, 10);
    gate.resolve();
    expect(Buffer.compare(await third, rig.bytes('large').subarray(0, 10))).toBe(0);
    await until(() => rig.streams.stats().fetches.running === 0);
    expect(Buffer.compare(await file.read(5, 10), rig.bytes('large').subarray(5, 15))).toBe(0);
    file.close();
  });

  it('says after its patience that the bucket is away, and reads on when that is back', async () => {
    const rig = await rigOf({ large: chunks(6, 200_000) }, { patience: 300 });
    const file = await rig.open('large');
    rig.bucket.before = (key) => {
      if (key.startsWith('packs/')) throw new UnavailableError('no route to the bucket');
    };
    const failed = file.read(0, 10);
    await expect(failed).rejects.toThrow(UnavailableError);
    await expect(failed).rejects.toThrow('no route to the bucket');
    rig.bucket.before = () => {};
    await readInOrder(file, rig.bytes('large'), 100_000);
    file.close();
  });

  it('is read from the bucket where the cache gives a partial file back no more', async () => {
    const rig = await rigOf({ large: chunks(6, 200_000) });
    const file = await rig.open('large');
    await file.read(0, 10);
    const { id } = rig.version.files.get('large')!;
    truncateSync(join(rig.cache.layout.directory, 'partial', id), 1000);
    await readInOrder(file, rig.bytes('large'), 90_000);
    expect(rig.warnings).toHaveLength(1);
    expect(file.whole()).toBeUndefined();
    file.close();
  });
});

describe('the partial file of a large object', () => {
  it('is taken over by the next open, and by the next daemon, with all that was verified', async () => {
    const rig = await rigOf({ large: chunks(20, 1_200_000) });
    const file = await rig.open('large');
    for (let at = 0; at < 20; at += 2) await file.read(at * 1_200_000, 10);
    file.close();
    await rig.restart();
    rig.bucket.reads.clear();
    const again = await rig.open('large');
    expect(expectLocalRight(again, rig.bytes('large'), readAt)).toBeGreaterThan(5);
    await readInOrder(again, rig.bytes('large'), 100_000);
    expect(packReads(rig)).toBe(10);
    await until(() => again.whole() !== undefined);
    again.close();
  });

  it('is dropped when the machine went down since', async () => {
    const rig = await rigOf({ large: chunks(4, 100_000) }, { bootId: 'one boot' });
    expect(partials(rig)).toEqual([]);
    const file = await rig.open('large');
    await file.read(0, 10);
    file.close();
    expect(rig.streams.stats().diskBytes).toBeGreaterThan(0);
    await rig.restart({ bootId: 'another boot' });
    expect(partials(rig)).toEqual([]);
    expect(rig.streams.stats().diskBytes).toBe(0);
  });

  it('makes room when no staged version has it, unless somebody reads it', async () => {
    const rig = await rigOf({ one: chunks(4, 100_000), two: chunks(4, 100_000) });
    const one = await rig.open('one');
    await one.read(0, 10);
    const two = await rig.open('two');
    await two.read(0, 10);
    two.close();
    expect(rig.streams.free(1)).toBe(0);
    await rig.restart({ isStaged: () => false });
    const open = await rig.open('one');
    expect(rig.streams.free(10 * MIB)).toBeGreaterThanOrEqual(100_000);
    expect(partials(rig)).toHaveLength(2);
    expect(existsSync(join(rig.cache.layout.directory, 'partial', rig.version.files.get('two')!.id))).toBe(false);
    await readInOrder(open, rig.bytes('one'), 50_000);
    open.close();
    one.close();
  });
});

describe('small files that the cache has no room for', () => {
  const files = Object.fromEntries(
    Array.from({ length: 200 }, (_, at) => [`f${String(at).padStart(3, '0')}`, randomBytes(20_000)]),
  );

  it('come a few at a time where they are read in order', async () => {
    const rig = await rigOf(files, { roomBytes: 0 });
    for (const path of Object.keys(files)) {
      expect(await rig.hydrator.hydrate(rig.version.files.get(path)!.id)).toBe('stream');
      const file = await rig.open(path);
      await readInOrder(file, rig.bytes(path), 128 * 1024);
      file.close();
    }
    expect(packReads(rig)).toBeLessThan(12);
    expect(partials(rig)).toEqual([]);
  });

  it('cost one small read each where they are read at random', async () => {
    const rig = await rigOf(files, { roomBytes: 0, memory: 200_000 }, { target: 300_000 });
    const random = createRandom(3);
    for (let time = 0; time < 50; time += 1) {
      const path = `f${String(random.below(200)).padStart(3, '0')}`;
      const file = await rig.open(path);
      await readInOrder(file, rig.bytes(path), 128 * 1024);
      file.close();
    }
    expect(rig.streams.stats().memoryBytes).toBeLessThanOrEqual(200_000);
  });

  it('go into the cache like others where there is room again', async () => {
    const rig = await rigOf({ only: randomBytes(50_000) });
    const file = await rig.open('only');
    await readInOrder(file, rig.bytes('only'), 20_000);
    await until(() => file.whole() !== undefined);
    file.close();
  });
});
