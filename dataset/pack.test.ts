import { zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { beginnings, flippedBits } from '../test/support/flip-bits.ts';
import { createRandom } from '../test/support/random.ts';
import { describeRepositories, overwrite } from '../test/support/repositories.ts';
import type { Bucket } from './bucket/bucket.ts';
import { readObject } from './bucket/read-object.ts';
import { type Digest, sha256 } from './digest.ts';
import { CorruptError, InvalidError, NotFoundError } from './errors.ts';
import { decodePackIndex, encodePackIndex, formatPackIndex, type PackedChunk, packIndexBytes } from './format/pack.ts';
import { packKey } from './keys.ts';
import type { ChunkLocation } from './location.ts';
import { PackBuilder, readChunk, readChunks, readPackIndex, streamPack } from './pack.ts';
import { initRepository, type Repository } from './repository.ts';

let bucket: Bucket;
let repository: Repository;
let read: number;

describeRepositories('packs', (make, kind) => {
  beforeEach(async () => {
    const made = await initRepository(await make());
    const plain = made.bucket;
    read = 0;
    bucket = {
      name: plain.name,
      get: async (key, options) => {
        const object = await plain.get(key, options);
        return { ...object, body: counted(object.body) };
      },
      head: (key) => plain.head(key),
      put: (key, body, options) => plain.put(key, body, options),
      list: (prefix, options) => plain.list(prefix, options),
      delete: (key, options) => plain.delete(key, options),
      close: () => plain.close(),
    };
    repository = { ...made, bucket };
  });

  afterEach(async () => {
    await bucket.close();
  });

  test('chunks come back from the packs that they were put into, each from its place and all in order', async () => {
    const chunks = randomChunks(1, 400);
    const { locations, packs } = await pack(chunks, 100_000);
    expect(packs.length).toBeGreaterThan(3);
    for (const [id, { bytes }] of chunks)
      expect((await readChunk(repository, locations.get(id)!)).equals(bytes)).toBe(true);
    const order: Digest[] = [];
    for (const id of packs)
      await streamPack(
        repository,
        id,
        () => true,
        async (chunk, bytes, wholeFile) => {
          expect(bytes.equals(chunks.get(chunk)!.bytes)).toBe(true);
          expect(wholeFile).toBe(chunks.get(chunk)!.wholeFile);
          order.push(chunk);
        },
      );
    expect(order).toEqual([...chunks.keys()]);
  });

  test('lent chunks are right wherever the blocks of a body end, which are overwritten when the next is asked for', async () => {
    const chunks = randomChunks(6, 60, 20_000);
    const { packs, locations } = await pack(chunks);
    for (const size of [701, 4_096, 65_536, 10_000_000]) {
      const lending: Repository = {
        ...repository,
        bucket: {
          ...bucket,
          get: async (key, options) => {
            const object = await bucket.get(key, options);
            return { ...object, body: inBlocks(object.body, size) };
          },
        },
      };
      const seen: Digest[] = [];
      const check = (id: Digest, bytes: Buffer) => {
        expect(bytes.equals(chunks.get(id)!.bytes), `blocks of ${size}`).toBe(true);
        seen.push(id);
      };
      await streamPack(lending, packs[0]!, () => true, check, undefined, { lend: true });
      expect(seen).toEqual([...chunks.keys()]);
      const some = seen.filter((_, at) => at % 7 === 3).map((id) => locations.get(id)!);
      await readChunks(lending, packs[0]!, some, (bytes, at) => check(some[at]!.id, bytes), undefined, { lend: true });
    }
  });

  test("a pack's index tells where each chunk lies, and reading it reads no chunk", async () => {
    const chunks = randomChunks(2, 50, 300_000);
    const { locations, packs } = await pack(chunks);
    read = 0;
    const index = await readPackIndex(repository, packs[0]!);
    expect(read).toBeLessThanOrEqual(2 * 1024 * 1024);
    expect(index.map(({ id }) => id)).toEqual([...chunks.keys()]);
    for (const { id, offset, stored } of index)
      expect(locations.get(id)).toMatchObject({ offset, stored, pack: packs[0] });
  });

  test('only what is wanted is handed over, and far apart it is not read through', async () => {
    const chunks = randomChunks(3, 40, 400_000);
    const { packs } = await pack(chunks, 64 * 1024 * 1024);
    const ids = [...chunks.keys()];
    const wanted = new Set([ids[0]!, ids[1]!, ids[20]!, ids[39]!]);
    read = 0;
    const got: Digest[] = [];
    await streamPack(
      repository,
      packs[0]!,
      (id) => wanted.has(id),
      async (id) => {
        got.push(id);
      },
    );
    expect(got).toEqual([...wanted]);
    const size = (await bucket.head(packKey(packs[0]!)))!.size;
    expect(read).toBeLessThan(size * 0.75);
  });

  test('packs are closed at their target, and of one run of chunks the same packs come', async () => {
    const chunks = randomChunks(4, 300);
    const first = await pack(chunks, 100_000);
    const again = await pack(chunks, 100_000);
    expect(again.packs).toEqual(first.packs);
    for (const id of first.packs) expect((await bucket.head(packKey(id)))!.size).toBeLessThan(100_000 + 45_000);
  });

  test('a damaged pack never gives a wrong byte: the error names pack and chunk', async () => {
    const chunks = randomChunks(5, 6, 300);
    const { locations, packs } = await pack(chunks);
    const key = packKey(packs[0]!);
    const { bytes: whole } = await readObject(bucket, key, 1_000_000);
    const random = createRandom(5);
    for (const { damaged, at } of flippedBits(random, whole, kind === 'S3' ? 40 : 1500)) {
      await overwrite(repository, key, damaged);
      let failed = false;
      const seen = new Set<Digest>();
      try {
        await streamPack(
          repository,
          packs[0]!,
          () => true,
          async (id, bytes) => {
            expect(sha256(bytes), at).toBe(id);
            seen.add(id);
          },
        );
      } catch (error) {
        expect(error, at).toBeInstanceOf(CorruptError);
        expect((error as Error).message).toContain(packs[0]);
        failed = true;
      }
      // A bit of a zstd frame may mean nothing: then every chunk is there, and right.
      expect(failed || seen.size === chunks.size, at).toBe(true);
      for (const location of locations.values()) {
        const bytes = await readChunk(repository, location).catch((error: unknown) => error);
        if (bytes instanceof Buffer) expect(sha256(bytes)).toBe(location.id);
        else expect((bytes as Error).message).toContain(`chunk ${location.id} in pack ${packs[0]} is damaged`);
      }
    }
  });

  test('a pack that was cut, or is not there, is told apart', async () => {
    const { locations, packs } = await pack(randomChunks(6, 5, 200));
    const key = packKey(packs[0]!);
    const { bytes: whole } = await readObject(bucket, key, 1_000_000);
    const last = [...locations.values()].at(-1)!;
    const stream = () =>
      streamPack(
        repository,
        packs[0]!,
        () => true,
        async () => undefined,
      );
    for (const part of beginnings(createRandom(6), whole, kind === 'S3' ? 8 : 100)) {
      await overwrite(repository, key, part);
      await expect(stream()).rejects.toThrow(CorruptError);
      await expect(readPackIndex(repository, packs[0]!)).rejects.toThrow(CorruptError);
      await expect(readChunk(repository, last)).rejects.toThrow(CorruptError);
    }
    await overwrite(repository, key, Buffer.concat([whole, Buffer.from([0])]));
    await expect(stream()).rejects.toThrow('its index tells of');
    await bucket.delete(key);
    await expect(stream()).rejects.toThrow(NotFoundError);
    await expect(readChunk(repository, last)).rejects.toThrow(NotFoundError);
  });

  test('a builder whose bucket fails says so on the next chunk or at the flush', async () => {
    const failing: Bucket = { ...bucket, put: () => Promise.reject(new Error('no room')) };
    const builder = new PackBuilder({ ...repository, bucket: failing }, { target: 1000 });
    const bytes = Buffer.alloc(600);
    const fill = async () => {
      for (let i = 0; i < 20; i++)
        await builder.add({ id: sha256('x'), length: 600, codec: 'raw', bytes, wholeFile: true });
      await builder.flush();
    };
    await expect(fill()).rejects.toThrow('no room');
  });
});

test('a pack index has the layout that the documentation gives', () => {
  const chunks: PackedChunk[] = [
    { id: sha256('a'), stored: 5, length: 5, codec: 'raw', wholeFile: false },
    { id: sha256('b'), stored: 3, length: 258, codec: 'zstd', wholeFile: true },
  ];
  const { id, head } = encodePackIndex(chunks);
  expect(head.toString('hex')).toBe(
    `4c50414b0102000000${sha256('a')}050000000500000000${sha256('b')}030000000201000003`,
  );
  expect(id).toBe(sha256(head));
  const index = decodePackIndex(id, head, head.length + 8);
  expect(formatPackIndex(index)).toBe(`${sha256('a')} 91 5 5 raw part\n${sha256('b')} 96 3 258 zstd file\n`);
});

test('a pack index with impossible chunks or counts is refused, whoever made it', () => {
  const chunk: PackedChunk = { id: sha256('a'), stored: 5, length: 5, codec: 'raw', wholeFile: false };
  for (const bad of [
    { stored: 4 },
    { stored: 0, length: 0 },
    { codec: 'zstd' as const },
    { length: 2 ** 31, stored: 2 ** 31 },
  ])
    expect(() => encodePackIndex([{ ...chunk, ...bad }])).toThrow(InvalidError);
  expect(() => encodePackIndex([])).toThrow(InvalidError);
  const { head } = encodePackIndex([chunk]);
  const refused = (change: (head: Buffer) => void, size = head.length + 5) => {
    const copy = Buffer.from(head);
    change(copy);
    return () => decodePackIndex(sha256(copy), copy, size);
  };
  expect(refused(() => undefined)).not.toThrow();
  expect(refused(() => undefined, 1000)).toThrow('it has 1000 bytes');
  expect(refused((copy) => copy.writeUInt32LE(0xffff_ffff, 5))).toThrow('tells of 4294967295 chunks');
  expect(refused((copy) => copy.writeUInt32LE(1_000_000, 5))).toThrow('tells of 1000000 chunks in');
  expect(refused((copy) => copy.writeUInt8(4, packIndexBytes(1) - 1))).toThrow('has the flags 4');
  expect(refused((copy) => copy.writeUInt32LE(9, 45))).toThrow('9 bytes are stored in 5');
  expect(refused((copy) => copy.writeUInt8(0x58, 0))).toThrow('does not begin as a pack');
  expect(refused((copy) => copy.writeUInt8(2, 4))).toThrow('has the format 2');
});

interface TestChunk {
  readonly bytes: Buffer;
  readonly wholeFile: boolean;
}

function randomChunks(seed: number, count: number, most = 4000): Map<Digest, TestChunk> {
  const random = createRandom(seed);
  const chunks = new Map<Digest, TestChunk>();
  while (chunks.size < count) {
    const bytes = random.bytes(1 + random.below(most));
    if (random.oneIn(2)) bytes.fill(random.below(256), bytes.length >> 2);
    chunks.set(sha256(bytes), { bytes, wholeFile: random.oneIn(2) });
  }
  return chunks;
}

async function pack(chunks: Map<Digest, TestChunk>, target?: number) {
  const locations = new Map<Digest, ChunkLocation>();
  const packs: Digest[] = [];
  const builder = new PackBuilder(repository, {
    target,
    onPack: (id, places) => {
      packs.push(id);
      for (const place of places) locations.set(place.id, place);
    },
  });
  for (const [id, { bytes, wholeFile }] of chunks) {
    const packed = zstdCompressSync(bytes);
    const codec = packed.length < bytes.length ? 'zstd' : 'raw';
    await builder.add({ id, length: bytes.length, codec, bytes: codec === 'zstd' ? packed : bytes, wholeFile });
  }
  await builder.flush();
  const order = new Map([...locations.values()].map(({ id, pack }) => [id, pack]));
  packs.splice(0, packs.length, ...new Set([...chunks.keys()].map((id) => order.get(id)!)));
  return { locations, packs };
}

async function* counted(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const block of body) {
    read += block.length;
    yield block;
  }
}

/** The same bytes in blocks of one memory, as a ring of a thread gives them. */
async function* inBlocks(body: AsyncIterable<Buffer>, size: number): AsyncGenerator<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of body) parts.push(Buffer.from(part));
  const whole = Buffer.concat(parts);
  const block = Buffer.alloc(size);
  for (let at = 0; at < whole.length; at += size) {
    yield block.subarray(0, whole.copy(block, 0, at, at + size));
    block.fill(0);
  }
}
