import { BlockRing } from './bucket/block-ring.ts';
import type { BucketObject } from './bucket/bucket.ts';
import { damagedChunk, restoreChunk, type StoredChunk } from './chunk-codec.ts';
import type { Digest } from './digest.ts';
import { CorruptError, InvalidError } from './errors.ts';
import type { ChunkLocation } from './format/locations.ts';
import {
  decodePackIndex,
  PACK_HEAD_BYTES,
  PACK_ROW_BYTES,
  type PackIndexEntry,
  packIndexLength,
  packName,
} from './format/pack.ts';
import { packKey } from './keys.ts';
import type { Repository } from './repository.ts';

export { restoreChunk } from './chunk-codec.ts';
export type { PackedChunk, PackIndexEntry } from './format/pack.ts';
export { PackBuilder, type PackBuilderOptions } from './pack-builder.ts';

/**
 * Unwanted bytes between wanted chunks are read through up to so many, in bytes; from there on they are asked around. Asking anew
 * takes a round trip, 10 ms in a region, in which a link of 100 MB/s brings 1 MB; half of that is left to one of two reads that go on
 * at a time, as they do wherever it matters.
 */
export const READ_THROUGH_BYTES = 512 * 1024;

/** Memory for what is lent grows up to this, in bytes: larger chunks have their own. */
const LENT_BYTES = 1024 * 1024;

/** What a pack holds, in its order; a NotFoundError where there is no such pack. */
export async function readPackIndex(
  repository: Repository,
  pack: Digest,
  signal?: AbortSignal,
): Promise<readonly PackIndexEntry[]> {
  const object = await repository.bucket.get(packKey(pack), { checked: true, signal });
  const bytes = new ByteStream(object.body);
  try {
    return await takeIndex(pack, object, bytes);
  } finally {
    await bytes.close();
  }
}

/** One chunk's bytes, verified. A CorruptError names pack and chunk; a NotFoundError tells that there is no such pack. */
export async function readChunk(
  repository: Repository,
  location: ChunkLocation,
  signal?: AbortSignal,
): Promise<Buffer> {
  let chunk: Buffer | undefined;
  const keep = (bytes: Buffer) => {
    chunk = bytes;
  };
  await readChunks(repository, location.pack, [location], keep, signal);
  return chunk!;
}

export interface LendOptions {
  /** A chunk's bytes are `onChunk`'s only until that is done: they lie in memory that is used again. */
  readonly lend?: boolean;
}

/**
 * Reads chunks of one pack with one request, and with them what lies between. Each is verified before `onChunk` gets it; the next is
 * taken when `onChunk` is done.
 * @param locations in ascending order of their offsets
 * @param onChunk its bytes are the callee's to keep, unless `lend` is said; `at` is the chunk's place in `locations`
 * @throws as `readChunk` does
 */
export async function readChunks(
  repository: Repository,
  pack: Digest,
  locations: readonly ChunkLocation[],
  onChunk: (bytes: Buffer, at: number) => Promise<void> | void,
  signal?: AbortSignal,
  { lend = false }: LendOptions = {},
): Promise<void> {
  const { offset } = locations[0]!;
  const last = locations.at(-1)!;
  const length = last.offset + last.stored - offset;
  let object: BucketObject;
  try {
    object = await repository.bucket.get(packKey(pack), { range: { offset, length }, signal });
  } catch (error) {
    if (!(error instanceof InvalidError)) throw error;
    throw damagedChunk(pack, last.id, 'the pack ends before it', error);
  }
  const bytes = new ByteStream(object.body);
  const memory = lend ? new LentMemory() : undefined;
  let position = offset;
  try {
    for (const [at, location] of locations.entries()) {
      const gap = location.offset - position;
      if (gap > 0) await bytes.skip(gap);
      const found = takeChunk(pack, location, bytes, memory);
      const chunk = found instanceof Promise ? await found : found;
      position = location.offset + location.stored;
      const taken = onChunk(chunk, at);
      if (taken) await taken;
    }
  } finally {
    await bytes.close();
  }
}

/**
 * Reads the chunks of a pack that are wanted, in the pack's order, each verified before `onChunk` gets it. Reads on only when
 * `onChunk` is done: it holds one chunk and one block of the bucket's at a time. Where much lies between wanted chunks, that is not read.
 * @param onChunk its bytes are the callee's to keep, unless `lend` is said
 * @param options.onIndex told of all that the pack holds before any of it is asked for
 * @throws CorruptError that names the pack, and the chunk if one is damaged; NotFoundError where there is no such pack
 */
export async function streamPack(
  repository: Repository,
  pack: Digest,
  want: (id: Digest) => boolean,
  onChunk: (id: Digest, bytes: Buffer, wholeFile: boolean) => Promise<void> | void,
  signal?: AbortSignal,
  options: LendOptions & { readonly onIndex?: (entries: readonly PackIndexEntry[]) => void } = {},
): Promise<void> {
  const { onIndex, lend = false } = options;
  const memory = lend ? new LentMemory() : undefined;
  const key = packKey(pack);
  const ring = new BlockRing();
  const object = await ring.get(repository.bucket, key, { checked: true, signal });
  let bytes = new ByteStream(object.body);
  try {
    const entries = await takeIndex(pack, object, bytes);
    onIndex?.(entries);
    let position = entries[0]!.offset;
    /** Of what is being read. */
    let end = object.size;
    for (const [at, entry] of entries.entries()) {
      if (!want(entry.id)) continue;
      signal?.throwIfAborted();
      const gap = entry.offset - position;
      if (gap > READ_THROUGH_BYTES || entry.offset + entry.stored > end) {
        await bytes.close();
        end = endOfRun(entries, at, want);
        const range = { offset: entry.offset, length: end - entry.offset };
        bytes = new ByteStream((await ring.get(repository.bucket, key, { range, ifMatch: object.etag, signal })).body);
      } else if (gap > 0) await bytes.skip(gap);
      const found = takeChunk(pack, entry, bytes, memory);
      const chunk = found instanceof Promise ? await found : found;
      position = entry.offset + entry.stored;
      const taken = onChunk(entry.id, chunk, entry.wholeFile);
      if (taken) await taken;
    }
  } finally {
    await bytes.close();
  }
}

/**
 * The next chunk, verified: without waiting for anything where all of it has come. With a memory it is lent, from the block that came
 * where it lies in one.
 */
function takeChunk(
  pack: Digest,
  chunk: StoredChunk,
  bytes: ByteStream,
  memory: LentMemory | undefined,
): Buffer | Promise<Buffer> {
  const { id, stored } = chunk;
  const restore = (found: Buffer) => {
    if (found.length < stored) throw damagedChunk(pack, id, `${found.length} of its ${stored} stored bytes are there`);
    return restoreChunk(pack, chunk, found, memory?.restored);
  };
  const there = memory && bytes.view(stored);
  return there ? restore(there) : bytes.take(stored, memory?.stored).then(restore);
}

/** Memory for chunks, used again for each. */
class LentMemory {
  readonly stored = placeAgain();
  readonly restored = placeAgain();
}

function placeAgain(): (length: number) => Buffer {
  let kept = Buffer.alloc(0);
  return (length) => {
    if (length > LENT_BYTES) return Buffer.allocUnsafeSlow(length);
    if (kept.length < length) kept = Buffer.allocUnsafeSlow(Math.min(LENT_BYTES, 2 * length));
    return kept.subarray(0, length);
  };
}

/** Where what is wanted from the chunk at `at` on ends, or much that is not wanted begins. */
function endOfRun(entries: readonly PackIndexEntry[], at: number, want: (id: Digest) => boolean): number {
  let end = entries[at]!.offset + entries[at]!.stored;
  for (const { id, offset, stored } of entries.slice(at + 1)) {
    if (offset - end > READ_THROUGH_BYTES) break;
    if (want(id)) end = offset + stored;
  }
  return end;
}

async function takeIndex(pack: Digest, object: BucketObject, bytes: ByteStream): Promise<PackIndexEntry[]> {
  const name = packName(pack);
  const short = () =>
    new CorruptError(`${name} is damaged: it ends too early`, { facts: { pack, fault: 'it ends too early' } });
  if (object.size < PACK_HEAD_BYTES + PACK_ROW_BYTES) throw short();
  const head = await bytes.take(PACK_HEAD_BYTES);
  if (head.length < PACK_HEAD_BYTES) throw short();
  const length = packIndexLength(pack, head, object.size);
  const rows = await bytes.take(length - PACK_HEAD_BYTES);
  if (head.length + rows.length < length) throw short();
  return decodePackIndex(pack, Buffer.concat([head, rows]), object.size);
}

/** Takes a body apart by lengths. */
class ByteStream {
  readonly #blocks: AsyncIterator<Buffer>;
  #block: Buffer = Buffer.alloc(0);

  constructor(body: AsyncIterable<Buffer>) {
    this.#blocks = body[Symbol.asyncIterator]();
  }

  /** The next `length` bytes in a buffer of their own (made by `place`), or fewer where the body ends. */
  async take(length: number, place: (length: number) => Buffer = Buffer.allocUnsafeSlow): Promise<Buffer> {
    const out = place(length);
    let done = 0;
    while (done < length && (await this.#fill())) {
      const count = this.#block.copy(out, done, 0, length - done);
      this.#block = this.#block.subarray(count);
      done += count;
    }
    return done === length ? out : out.subarray(0, done);
  }

  /** The next `length` bytes where they lie in the block that came last, valid until more is asked for; undefined, and none taken, where not. */
  view(length: number): Buffer | undefined {
    if (this.#block.length < length) return undefined;
    const view = this.#block.subarray(0, length);
    this.#block = this.#block.subarray(length);
    return view;
  }

  async skip(length: number): Promise<void> {
    let left = length;
    while (left > 0 && (await this.#fill())) {
      const count = Math.min(left, this.#block.length);
      this.#block = this.#block.subarray(count);
      left -= count;
    }
  }

  async close(): Promise<void> {
    await this.#blocks.return?.();
  }

  async #fill(): Promise<boolean> {
    while (this.#block.length === 0) {
      const { done, value } = await this.#blocks.next();
      if (done === true) return false;
      this.#block = value;
    }
    return true;
  }
}
