import { type FileHandle, open } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import type { ObjectInfo } from '../../dataset/bucket/bucket.ts';
import { abortable } from '../../system/abortable.ts';
import { BLOCK_BYTES, Blocks, blocksOf } from './blocks.ts';
import { encodeTrailer, readAt, readTrailer } from './stored-file.ts';

/** Read from the disk at a time, at most. */
const READ_BLOCKS = 4;

/** The disk failed, or has other bytes than were written: the bucket has them still. */
export class StoreFault extends Error {}

/**
 * One object in the store: a file in which blocks come to be in any order. Its bytes are checked by their CRC-32 when they are read:
 * that finds what a disk or a crash did, not what came wrong; the reader's digests find that.
 */
export class StoredObject {
  readonly info: ObjectInfo;
  readonly blocks: Blocks;
  /** What came in the way of the last blocks that were given up. */
  failure: unknown;
  /** How often blocks were given up. */
  failures = 0;
  readonly #handle: FileHandle;
  readonly #checks: Uint32Array;
  #change = Promise.withResolvers<void>();

  private constructor(handle: FileHandle, info: ObjectInfo, checks?: Uint32Array) {
    this.#handle = handle;
    this.info = info;
    const count = blocksOf(info.size);
    this.#checks = checks ?? new Uint32Array(count);
    this.blocks = new Blocks(count, checks === undefined ? 'missing' : 'present');
  }

  /** An empty one, at a path where nothing is. */
  static async create(path: string, info: ObjectInfo): Promise<StoredObject> {
    return new StoredObject(await open(path, 'wx+', 0o600), info);
  }

  /** A whole one; undefined where it is not what was written. */
  static async open(path: string): Promise<StoredObject | undefined> {
    const handle = await open(path, 'r');
    try {
      const trailer = await readTrailer(handle);
      if (trailer !== undefined) return new StoredObject(handle, trailer.info, trailer.checks);
    } catch (error) {
      await handle.close();
      throw error;
    }
    await handle.close();
    return undefined;
  }

  /**
   * The bytes from `from` up to `to`, or the first of them, which must be in present blocks.
   * @throws StoreFault
   */
  async read(from: number, to: number): Promise<Buffer> {
    const first = Math.floor(from / BLOCK_BYTES);
    const end = this.blocks.runEnd(first, Math.min(first + READ_BLOCKS, blocksOf(to)));
    const start = first * BLOCK_BYTES;
    const bytes = await faulty(readAt(this.#handle, start, Math.min(end * BLOCK_BYTES, this.info.size)));
    for (let block = first; block < end; block++) {
      const at = (block - first) * BLOCK_BYTES;
      if (crc32(bytes.subarray(at, at + BLOCK_BYTES)) !== this.#checks[block])
        throw new StoreFault(`block ${block} is not as it was written`);
    }
    return bytes.subarray(from - start, to - start);
  }

  /** Stores claimed blocks from `block` on: whole ones, but for the object's last. @throws StoreFault */
  async write(block: number, bytes: Buffer): Promise<void> {
    const count = blocksOf(bytes.length);
    for (let at = 0; at < count; at++)
      this.#checks[block + at] = crc32(bytes.subarray(at * BLOCK_BYTES, (at + 1) * BLOCK_BYTES));
    await faulty(this.#writeAll(bytes, block * BLOCK_BYTES));
    this.blocks.arrived(block, block + count);
    this.#changed();
  }

  /** Blocks that were claimed will not come. */
  giveUp(from: number, to: number, cause: unknown): void {
    this.blocks.giveUp(from, to);
    this.failures += 1;
    this.failure = cause;
    this.#changed();
  }

  /** Resolves when blocks have come or were given up. */
  async changed(signal: AbortSignal | undefined): Promise<void> {
    await abortable(this.#change.promise, signal);
  }

  /** For a whole object: what makes its file complete. */
  async finish(): Promise<void> {
    await faulty(this.#writeAll(encodeTrailer(this.info, this.#checks), this.info.size));
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  #changed(): void {
    const { resolve } = this.#change;
    this.#change = Promise.withResolvers();
    resolve();
  }

  async #writeAll(bytes: Buffer, position: number): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.#handle.write(bytes, done, bytes.length - done, position + done);
      done += bytesWritten;
    }
  }
}

async function faulty<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw new StoreFault((error as Error).message, { cause: error });
  }
}
