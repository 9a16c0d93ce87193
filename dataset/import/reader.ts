import { closeSync, constants, openSync, readSync } from 'node:fs';
import { createStatRecord, STAT, type StatRecord, statFd } from '../../system/calls/directory.ts';
import { seekData, seekHole } from '../../system/calls/file.ts';
import { type ByteString, textOf } from '../byte-string.ts';
import { type Digest, sha256 } from '../digest.ts';
import { INLINE_LIMIT, type Xattr } from '../entry.ts';
import { ConflictError, isErrno, LarderError, UnavailableError } from '../errors.ts';
import { type Extent, extraBlocks } from './block.ts';
import type { BlockWriter } from './block-writer.ts';
import { CHUNK_MAX, CHUNK_MIN, Cutter } from './chunker.ts';
import { compressChunk } from './compress.ts';
import { DeepPaths, fsPath } from './deep-path.ts';
import { DECIDING_FACTS, FACT, FACTS } from './pending.ts';
import { readXattrs } from './scan.ts';
import { freeBuffer } from './slab.ts';

/** Files up to this size are read in batches, larger ones one by one as streams of chunks. Such a file is one chunk. */
export const BATCHED = CHUNK_MIN;

/** A file that changes while it is read is read this many times in all. */
const ATTEMPTS = 4;

/** Shorter holes are stored as the zeros that they read as. */
const HOLE_MIN = 64 << 10;

const READ_STEP = 1 << 20;

/** What a stream's window holds at first: more than nearly every chunk. */
const WINDOW = 8 << 20;

export interface ReadBatch {
  readonly paths: readonly ByteString[];
  /** `FACTS` numbers for each file. */
  readonly facts: Float64Array<ArrayBuffer>;
  /** Where the stored bytes go; memory of their own where it is not given. */
  readonly block?: SharedArrayBuffer;
}

/** What became of a file of a batch. `large`: it grew out of the batch and is to be streamed. */
export const READ = { inline: 0, raw: 1, zstd: 2, vanished: 3, large: 4, sparse: 5 } as const;

export interface ReadFiles {
  /** `READ` of each file. */
  readonly states: Uint8Array<ArrayBuffer>;
  /** The length of each file's stored bytes, which follow each other in `bytes`. */
  readonly stored: Uint32Array<ArrayBuffer>;
  readonly bytes: Uint8Array;
  /** Empty for inline files. */
  readonly digests: readonly (Digest | '')[];
  /** The facts as they were when the bytes were read. */
  readonly facts: Float64Array<ArrayBuffer>;
  /** By index; only files that have any. */
  readonly xattrs: ReadonlyMap<number, readonly Xattr[]>;
}

/** A piece of a streamed file. */
export type StreamPart =
  /** Blocks are wanted: so many more than a writer has at any time, for the chunk that comes next. */
  | { readonly kind: 'blocks'; readonly extra: number }
  /** All before this is void: the file changed and is read again from its beginning. */
  | { readonly kind: 'again' }
  | { readonly kind: 'hole'; readonly length: number }
  | {
      readonly kind: 'chunk';
      readonly digest: Digest;
      readonly length: number;
      readonly codec: 'raw' | 'zstd';
      readonly bytes: Uint8Array<ArrayBuffer>;
      /** The chunk is the whole file. */
      readonly whole: boolean;
    }
  /** The same, with its bytes in blocks. */
  | {
      readonly kind: 'block-chunk';
      readonly digest: Digest;
      readonly length: number;
      readonly codec: 'raw' | 'zstd';
      readonly extents: readonly Extent[];
      readonly whole: boolean;
    };

export interface StreamedFile {
  readonly vanished: boolean;
  readonly facts: Float64Array<ArrayBuffer>;
  readonly xattrs: readonly Xattr[] | undefined;
}

/** Reads, hashes, cuts and compresses files, in a worker thread. */
export class Reader {
  readonly #record: StatRecord = createStatRecord();
  readonly #deep = new DeepPaths();
  #input = Buffer.allocUnsafeSlow(BATCHED + 1);
  #output = Buffer.allocUnsafeSlow(4 << 20);
  /** What is read of a stream and not cut yet; made for the first. */
  #window: Buffer | undefined;
  /** Where chunks of streams are compressed before they are put into blocks. */
  #compressed: Buffer | undefined;
  #noAtime = true;

  /** Reads small files. */
  batch({ paths, facts, block }: ReadBatch): ReadFiles {
    const count = paths.length;
    const states = new Uint8Array(count);
    const stored = new Uint32Array(count);
    const digests = new Array<Digest | ''>(count).fill('');
    const xattrs = new Map<number, readonly Xattr[]>();
    let output: Buffer = block ? Buffer.from(block) : this.#output;
    let used = 0;
    for (let i = 0; i < count; i++) {
      const path = paths[i]!;
      const expected = facts.subarray(i * FACTS, (i + 1) * FACTS);
      const fd = this.#open(path);
      if (fd < 0) {
        states[i] = READ.vanished;
        continue;
      }
      try {
        const length = this.#readWhole(fd, path, expected);
        if (length < 0) {
          states[i] = READ.large;
          continue;
        }
        if (expected[FACT.allocated]! < length && length > HOLE_MIN && hasHole(fd, length)) {
          states[i] = READ.sparse;
          continue;
        }
        const found = readXattrs(fd);
        if (found !== undefined) xattrs.set(i, found);
        const chunk = this.#input.subarray(0, length);
        if (output.length - used < length) {
          if (block) {
            // The files grew since they were listed.
            states[i] = READ.large;
            continue;
          }
          output = this.#grow(used, length);
        }
        const target = output.subarray(used, used + length);
        if (length <= INLINE_LIMIT) {
          target.set(chunk);
          states[i] = READ.inline;
          stored[i] = length;
        } else {
          digests[i] = sha256(chunk);
          const compressed = compressChunk(target, chunk);
          if (compressed === 0) target.set(chunk);
          states[i] = compressed === 0 ? READ.raw : READ.zstd;
          stored[i] = compressed === 0 ? length : compressed;
        }
        used += stored[i]!;
      } finally {
        closeSync(fd);
      }
    }
    const bytes = block ? new Uint8Array(block, 0, used) : new Uint8Array(output.subarray(0, used));
    return { states, stored, bytes, digests, facts, xattrs };
  }

  /**
   * Reads a file of any size, part by part.
   * @param give takes a part; where it gives a promise, reading waits for it
   * @param blocks where the chunks' bytes go; memory of their own if there is none
   */
  async stream(
    path: ByteString,
    facts: Float64Array<ArrayBuffer>,
    give: (part: StreamPart) => Promise<void> | undefined,
    blocks?: BlockWriter,
  ): Promise<StreamedFile> {
    const fd = this.#open(path);
    if (fd < 0) return { vanished: true, facts, xattrs: undefined };
    const giveChunk = async (chunk: Uint8Array, whole: boolean) =>
      await give(blocks === undefined ? chunkPart(chunk, whole) : await this.#blockPart(chunk, whole, blocks, give));
    try {
      if (blocks !== undefined) await give({ kind: 'blocks', extra: 0 });
      let same = false;
      for (let attempt = 1; !same; attempt++) {
        if (attempt > ATTEMPTS) throw unsteady(path);
        if (attempt > 1) await give({ kind: 'again' });
        this.#stat(fd, facts, path);
        const size = facts[FACT.size]!;
        same =
          (await this.#extents(fd, size, facts[FACT.allocated]! < size, give, giveChunk)) &&
          this.#stat(fd, facts, path);
      }
      return { vanished: false, facts, xattrs: readXattrs(fd) };
    } catch (error) {
      if (error instanceof LarderError) throw error;
      throw unreadable(path, error);
    } finally {
      closeSync(fd);
    }
  }

  close(): void {
    this.#deep.close();
  }

  /** The descriptor, or -1 where there is no such file any more. */
  #open(path: ByteString): number {
    const target = fsPath(this.#deep.reach(path));
    for (;;)
      try {
        // Without O_NONBLOCK, a FIFO that took the file's place would block for ever.
        const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
        return openSync(target, this.#noAtime ? flags | constants.O_NOATIME : flags);
      } catch (error) {
        if (isErrno(error, 'ENOENT') || isErrno(error, 'ENOTDIR')) return -1;
        // O_NOATIME is for a file's owner and root.
        if (isErrno(error, 'EPERM') && this.#noAtime) this.#noAtime = false;
        else if (isErrno(error, 'ELOOP') || isErrno(error, 'ENXIO')) throw unsteady(path);
        else throw unreadable(path, error);
      }
  }

  /**
   * Reads a small file into `#input` until its facts are the same before and after.
   * @returns its length; -1 if it is no small file any more
   */
  #readWhole(fd: number, path: ByteString, facts: Float64Array): number {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      const size = facts[FACT.size]!;
      if (size > BATCHED) return -1;
      let length = 0;
      // One byte more than its size: a file that has grown shows it here.
      for (let read = -1; read !== 0 && length <= size; length += read)
        read = readSome(fd, path, this.#input, length, size + 1 - length, length);
      if (this.#stat(fd, facts, path) && length === size) return length;
    }
    throw unsteady(path);
  }

  /** Puts the file's facts of now into `facts`; whether those that decide are the ones that were there. */
  #stat(fd: number, facts: Float64Array, path: ByteString): boolean {
    statFd(fd, this.#record);
    const { words } = this.#record;
    if ((words[STAT.mode]! & 0o170000) !== 0o100000) throw unsteady(path);
    let same = true;
    const set = (fact: number, value: number) => {
      if (facts[fact] !== value) {
        facts[fact] = value;
        if (fact < DECIDING_FACTS) same = false;
      }
    };
    const high = 0x1_0000_0000;
    set(FACT.size, words[STAT.size]! + words[STAT.size + 1]! * high);
    set(FACT.mtimeSeconds, words[STAT.mtime]! + (words[STAT.mtime + 1]! | 0) * high);
    set(FACT.mtimeNanos, words[STAT.mtimeNanos]!);
    set(FACT.inode, words[STAT.inode]! + words[STAT.inode + 1]! * high);
    set(FACT.ctimeSeconds, words[STAT.ctime]! + (words[STAT.ctime + 1]! | 0) * high);
    set(FACT.ctimeNanos, words[STAT.ctimeNanos]!);
    set(FACT.mode, words[STAT.mode]! & 0o7777);
    set(FACT.uid, words[STAT.uid]!);
    set(FACT.gid, words[STAT.gid]!);
    set(FACT.allocated, (words[STAT.blocks]! + words[STAT.blocks + 1]! * high) * 512);
    set(FACT.nlink, words[STAT.nlink]!);
    return same;
  }

  #grow(used: number, length: number): Buffer<ArrayBuffer> {
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#output.length * 2, used + length));
    larger.set(this.#output.subarray(0, used));
    this.#output = larger;
    return larger;
  }

  /** Reads data and holes up to `size`. Whether all of it was there. */
  async #extents(
    fd: number,
    size: number,
    sparse: boolean,
    give: (part: StreamPart) => Promise<void> | undefined,
    giveChunk: (chunk: Uint8Array, whole: boolean) => Promise<void>,
  ): Promise<boolean> {
    if (!sparse) return await this.#data(fd, 0, size, size, giveChunk);
    for (let at = 0; at < size; ) {
      const hole = nextHole(fd, at, size);
      const end = hole?.start ?? size;
      if (end > at && !(await this.#data(fd, at, end, size, giveChunk))) return false;
      if (hole !== undefined) await give({ kind: 'hole', length: hole.end - hole.start });
      at = hole?.end ?? size;
    }
    return true;
  }

  async #blockPart(
    chunk: Uint8Array,
    whole: boolean,
    blocks: BlockWriter,
    give: (part: StreamPart) => Promise<void> | undefined,
  ): Promise<StreamPart> {
    const digest = sha256(chunk);
    // What is not written to takes no memory.
    this.#compressed ??= Buffer.allocUnsafeSlow(CHUNK_MAX);
    const compressed = compressChunk(this.#compressed, chunk);
    const stored = compressed === 0 ? chunk : this.#compressed.subarray(0, compressed);
    const extra = extraBlocks(stored.length);
    if (extra > 0) await give({ kind: 'blocks', extra });
    const extents = await blocks.write(stored);
    const codec = compressed === 0 ? 'raw' : 'zstd';
    return { kind: 'block-chunk', digest, length: chunk.length, codec, extents, whole };
  }

  /** Cuts the bytes from `start` to `end` into chunks. Whether all of them were there. */
  async #data(
    fd: number,
    start: number,
    end: number,
    size: number,
    giveChunk: (chunk: Uint8Array, whole: boolean) => Promise<void>,
  ): Promise<boolean> {
    const cutter = new Cutter();
    this.#window ??= Buffer.allocUnsafeSlow(WINDOW);
    let window = this.#window;
    let filled = 0;
    let begin = 0;
    let at = start;
    for (;;) {
      const length = cutter.cut(window.subarray(begin, filled), at === end);
      if (length > 0) {
        const chunk = window.subarray(begin, begin + length);
        await giveChunk(chunk, length === size);
        begin += length;
      }
      if (begin === filled && at === end) return true;
      if (length > 0 && filled - begin >= CHUNK_MIN) continue;
      if (at === end) continue;
      // More is needed: make room behind what is left.
      if (window.length - filled < Math.min(READ_STEP, end - at)) {
        if (begin === 0) {
          const larger = Buffer.allocUnsafeSlow(Math.min(CHUNK_MAX + READ_STEP, window.length * 2));
          larger.set(window.subarray(0, filled));
          freeBuffer(window);
          window = larger;
          this.#window = larger;
        } else {
          window.copyWithin(0, begin, filled);
          filled -= begin;
          begin = 0;
        }
      }
      const wanted = Math.min(READ_STEP, end - at, window.length - filled);
      const read = readSync(fd, window, filled, wanted, at);
      if (read === 0) return false;
      filled += read;
      at += read;
    }
  }
}

function chunkPart(chunk: Uint8Array, whole: boolean): StreamPart {
  const digest = sha256(chunk);
  const output = Buffer.allocUnsafeSlow(chunk.length);
  const compressed = compressChunk(output, chunk);
  if (compressed === 0) output.set(chunk);
  const used = compressed === 0 ? chunk.length : compressed;
  // A copy of the right length where much would be left over: what is in flight is counted by its length.
  const bytes =
    used > chunk.length * 0.9 ? new Uint8Array(output.buffer, 0, used) : new Uint8Array(output.subarray(0, used));
  return { kind: 'chunk', digest, length: chunk.length, codec: compressed === 0 ? 'raw' : 'zstd', bytes, whole };
}

/** The next hole worth keeping at or after `from`; undefined if there is none before `size`. */
function nextHole(fd: number, from: number, size: number): { start: number; end: number } | undefined {
  for (let at = from; at < size; ) {
    const start = seekHole(fd, at);
    if (start === undefined || start >= size) return undefined;
    const end = Math.min(seekData(fd, start) ?? size, size);
    if (end - start >= HOLE_MIN) return { start, end };
    at = Math.max(end, at + 1);
  }
  return undefined;
}

function hasHole(fd: number, size: number): boolean {
  return nextHole(fd, 0, size) !== undefined;
}

function readSome(
  fd: number,
  path: ByteString,
  buffer: Buffer,
  offset: number,
  length: number,
  position: number,
): number {
  try {
    return readSync(fd, buffer, offset, length, position);
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: ByteString, cause: unknown): Error {
  const { code } = cause as NodeJS.ErrnoException;
  const why =
    code === 'EACCES' || code === 'EPERM'
      ? 'permission is denied; import as a user who may read it, or change its mode'
      : (cause as Error).message;
  return new UnavailableError(`cannot read '${textOf(path)}': ${why}`, { cause, facts: { path: textOf(path), code } });
}

function unsteady(path: ByteString): Error {
  return new ConflictError(
    `'${textOf(path)}' changed each time it was read; stop what writes to it and import again, or import a snapshot`,
    { facts: { path: textOf(path) } },
  );
}
