import { availableParallelism } from 'node:os';
import type { ChunkSink } from '../commit.ts';
import type { Digest } from '../digest.ts';
import { type Content, INLINE_LIMIT, type Part } from '../entry.ts';
import { partsId } from '../format/parts.ts';
import { CHUNK_MAX, CHUNK_MIN, Cutter } from '../import/chunker.ts';
import { freeBuffer, SLAB_CHUNK } from '../import/slab.ts';
import { Pool } from '../threads/pool.ts';
import type { ChunkTask, ReadyChunks } from './chunk-worker.ts';
import type { Piece } from './tar/read-tar.ts';

/** A file whose bytes were taken. */
export interface Taken {
  /** In bytes. */
  readonly size: number;
  /** Known once its chunks are stored. */
  readonly content: Promise<Content>;
}

/** Small chunks go to a thread together, so many bytes or chunks of them. */
const BATCH_BYTES = 2 << 20;
const BATCH_CHUNKS = 256;
/** A batch that does not fill goes after so many milliseconds. */
const PATIENCE = 20;
/** Chunks from this size on go alone. */
const ALONE = 512 << 10;
/** Bytes on their way through the threads, for each of them: beyond this, no more are taken. */
const UNDERWAY_PER_THREAD = 8 << 20;
const THREADS = Math.max(2, availableParallelism());
/** Shorter holes are stored as the zeros that they read as, as imports of directories do. */
const HOLE_MIN = 64 << 10;

const ZEROS = Buffer.alloc(HOLE_MIN);

interface Batch {
  readonly bytes: Uint8Array<ArrayBuffer>;
  used: number;
  readonly lengths: number[];
  readonly whole: boolean[];
  readonly named: ((digest: Digest) => void)[];
  readonly failed: ((error: unknown) => void)[];
}

/**
 * Takes files whose bytes come as streams: cuts them as every import does, has threads name and compress the chunks, and stores them.
 * Several files may be taken at a time. Memory is bounded: who brings bytes waits while too many are on their way.
 */
export class Ingest implements AsyncDisposable {
  readonly #sink: ChunkSink;
  #pool: Pool<ChunkTask, ReadyChunks> | undefined;
  readonly #limit = UNDERWAY_PER_THREAD * THREADS;
  #batch: Batch | undefined;
  #underway = 0;
  /** Chunks are stored one after the other. */
  #storing: Promise<void> = Promise.resolve();
  #failure: { readonly error: unknown } | undefined;
  #wake: (() => void)[] = [];

  constructor(sink: ChunkSink) {
    this.#sink = sink;
  }

  /** Takes a file's bytes to their end. A block of `body` need not be good any longer than until the next one is asked for. */
  async take(body: AsyncIterable<Piece>): Promise<Taken> {
    const cut = new FileCutter();
    const parts: (Part | Promise<Part>)[] = [];
    const room = async () => {
      while (this.#underway >= this.#limit && this.#failure === undefined)
        await new Promise<void>((resolve) => this.#wake.push(resolve));
      this.#check();
    };
    const add = (chunk: Uint8Array, whole: boolean) => {
      const { length } = chunk;
      const named = this.#chunk(chunk, whole).then((digest): Part => ({ chunk: digest, length }));
      // It is met with the whole content.
      named.catch(() => undefined);
      parts.push(named);
    };
    const fill = async (bytes: Uint8Array) => {
      for (let at = 0; at < bytes.length; ) {
        at += cut.fill(bytes.subarray(at));
        for (let chunk = cut.next(false); chunk !== undefined; chunk = cut.next(false)) {
          await room();
          add(chunk, false);
        }
      }
    };
    for await (const piece of body) {
      if (Buffer.isBuffer(piece)) await fill(piece);
      else if (piece.hole < HOLE_MIN) await fill(ZEROS.subarray(0, piece.hole));
      else {
        for (let chunk = cut.next(true); chunk !== undefined; chunk = cut.next(true)) {
          await room();
          add(chunk, false);
        }
        cut.skip(piece.hole);
        parts.push({ length: piece.hole });
      }
    }
    const { size } = cut;
    if (size <= INLINE_LIMIT && parts.length === 0) {
      const bytes = Buffer.from(cut.next(true) ?? []);
      cut.free();
      return { size, content: Promise.resolve({ kind: 'inline', bytes }) };
    }
    for (let chunk = cut.next(true); chunk !== undefined; chunk = cut.next(true)) {
      await room();
      add(chunk, parts.length === 0 && chunk.length === size);
    }
    cut.free();
    const content = Promise.all(parts).then(contentOf);
    content.catch(() => undefined);
    return { size, content };
  }

  /** Sends on what waits for more of its kind. */
  flush(): void {
    const batch = this.#batch;
    this.#batch = undefined;
    if (batch !== undefined) this.#send(batch);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool?.close();
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Copies the chunk. */
  #chunk(chunk: Uint8Array, whole: boolean): Promise<Digest> {
    const { length } = chunk;
    this.#underway += length;
    const alone = length >= ALONE;
    if (!alone && this.#batch !== undefined && this.#batch.used + length > BATCH_BYTES) this.flush();
    const batch = alone ? newBatch(length) : (this.#batch ?? this.#begin());
    batch.bytes.set(chunk, batch.used);
    batch.used += length;
    batch.lengths.push(length);
    batch.whole.push(whole);
    const digest = new Promise<Digest>((resolve, reject) => {
      batch.named.push(resolve);
      batch.failed.push(reject);
    });
    if (alone) this.#send(batch);
    else if (batch.lengths.length >= BATCH_CHUNKS) this.flush();
    return digest;
  }

  #begin(): Batch {
    const batch = newBatch(BATCH_BYTES);
    this.#batch = batch;
    // Whoever waits for one of its chunks brings no more.
    setTimeout(() => {
      if (this.#batch === batch) this.flush();
    }, PATIENCE);
    return batch;
  }

  #send(batch: Batch): void {
    const { used, lengths } = batch;
    const bytes = batch.bytes.subarray(0, used);
    this.#pool ??= new Pool({ module: new URL('./chunk-worker.ts', import.meta.url), data: {}, count: THREADS });
    const job = this.#pool.run({ bytes, lengths }, { transfer: [bytes.buffer], weight: used + lengths.length * 4096 });
    job.result
      .then((ready) => {
        this.#storing = this.#storing.then(() => this.#store(batch, ready));
        return this.#storing;
      })
      .catch((error: unknown) => {
        this.#failure ??= { error };
        for (const fail of batch.failed) fail(error);
      })
      .finally(() => {
        this.#underway -= used;
        const waiting = this.#wake;
        this.#wake = [];
        for (const wake of waiting) wake();
      });
  }

  async #store({ lengths, whole, named }: Batch, { digests, stored, bytes }: ReadyChunks): Promise<void> {
    this.#check();
    let at = 0;
    for (let i = 0; i < lengths.length; i++) {
      const length = lengths[i]!;
      const size = stored[i]!;
      const wait = this.#sink.store({
        id: digests[i]!,
        length,
        codec: size < length ? 'zstd' : 'raw',
        bytes: Buffer.from(bytes.buffer, bytes.byteOffset + at, size),
        whole: whole[i]!,
      });
      at += size;
      if (wait) await wait;
      named[i]!(digests[i]!);
    }
    // Larger ones lie in memory of their own, which the store gives back.
    if (lengths.length > 1 || bytes.length <= SLAB_CHUNK) freeBuffer(bytes);
  }
}

function newBatch(bytes: number): Batch {
  return { bytes: new Uint8Array(bytes), used: 0, lengths: [], whole: [], named: [], failed: [] };
}

function contentOf(parts: readonly Part[]): Content {
  const [first] = parts;
  if (parts.length === 1 && first!.chunk !== undefined) return { kind: 'chunk', id: first!.chunk };
  return { kind: 'chunks', id: partsId(parts), parts };
}

/** Cuts one file's bytes into chunks as they come. Between holes, it begins anew. */
class FileCutter {
  #cutter = new Cutter();
  #window: Buffer = Buffer.alloc(0);
  #begin = 0;
  #end = 0;
  /** Bytes so far, with holes. */
  size = 0;

  /** Takes some of the bytes, one at least. @returns how many: `next` is to be asked before more are given */
  fill(bytes: Uint8Array): number {
    if (this.#window.length - this.#end < bytes.length) this.#makeRoom(bytes.length);
    const taken = Math.min(bytes.length, this.#window.length - this.#end);
    this.#window.set(bytes.subarray(0, taken), this.#end);
    this.#end += taken;
    this.size += taken;
    return taken;
  }

  /**
   * The next chunk, good until more is filled in; undefined where more bytes are needed.
   * @param last whether a hole or the end follows
   */
  next(last: boolean): Uint8Array | undefined {
    if (this.#begin === this.#end) return undefined;
    if (!last && this.#end - this.#begin < CHUNK_MIN) return undefined;
    const data = this.#window.subarray(this.#begin, this.#end);
    const length = this.#cutter.cut(data, last);
    if (length === 0) return undefined;
    this.#begin += length;
    return data.subarray(0, length);
  }

  skip(length: number): void {
    this.size += length;
  }

  /** Gives its memory back. */
  free(): void {
    freeBuffer(this.#window);
  }

  #makeRoom(wanted: number): void {
    const left = this.#end - this.#begin;
    const most = CHUNK_MAX + CHUNK_MIN;
    const needed = Math.min(most, left + wanted);
    if (needed > this.#window.length) {
      // It grows with the file: most files are small.
      const larger = Buffer.allocUnsafeSlow(Math.min(most, Math.max(needed, this.#window.length * 2, 64 << 10)));
      larger.set(this.#window.subarray(this.#begin, this.#end));
      freeBuffer(this.#window);
      this.#window = larger;
    } else this.#window.copyWithin(0, this.#begin, this.#end);
    this.#begin = 0;
    this.#end = left;
  }
}
