import type { MessagePort } from 'node:worker_threads';
import type { Bucket, BucketObject, GetOptions, ObjectInfo } from '../dataset/bucket/bucket.ts';
import { fromThreadError, type ThreadError, toThreadError } from '../dataset/threads/thread-error.ts';
import { makeRing, RingReader, RingWriter } from './shared-ring.ts';

/*
 * A bucket's `get` across threads: connections, retries and limits stay on the main thread, in one place, while a worker reads,
 * checks and writes. The bytes go through a ring of shared memory for each read, into which the kernel writes them where the bucket
 * has none of its own; its size is how far the main thread may be ahead. Messages begin and end a read, and wake who sleeps.
 */

/** Of one ring, in bytes, and of one for a range that fits into it. */
const RING_BYTES = 1024 * 1024;
const SMALL_RING_BYTES = 256 * 1024;

/** Rings that no read has used for so long are given up, in milliseconds. */
const RING_REST = 10_000;

type Request =
  | {
      readonly stream: number;
      readonly job: number;
      readonly key: string;
      readonly options: GetOptions;
      readonly memory: SharedArrayBuffer;
    }
  /** There is room in the ring again, which the main thread waits for. */
  | { readonly stream: number; readonly room: true }
  | { readonly stream: number; readonly stop: true };

/** The last one of a stream is `end` or `error`: after it, the ring is the worker's again. */
type Answer =
  | { readonly stream: number; readonly info: ObjectInfo }
  /** There are bytes in the ring again, which the worker waits for. */
  | { readonly stream: number; readonly bytes: true }
  | { readonly stream: number; readonly end: true }
  | { readonly stream: number; readonly error: ThreadError };

/** The bucket of a job, and to whom to tell how many of an object's bytes were read. */
export interface ServedJob {
  readonly bucket: Bucket;
  readonly signal: AbortSignal;
  onRead(bytes: number, objectSize: number): void;
  /** Waits until so many bytes may be passed on; undefined where they may be at once. */
  pass?(bytes: number): Promise<void> | undefined;
  /** A read has ended. */
  onFetched(fetched: Fetched): void;
}

/** How a read of a bucket went. */
export interface Fetched {
  readonly bytes: number;
  readonly milliseconds: number;
  readonly failed: boolean;
  /** A neighbour gave it, and has told of it itself. */
  readonly neighbour: boolean;
}

/** What a bucket that asks neighbours first adds to an object that came from one. */
export interface FromNeighbour {
  readonly neighbour?: true;
}

/** Answers what the `PortBuckets` at the other end of `port` ask. */
export function serveBuckets(port: MessagePort, jobs: ReadonlyMap<number, ServedJob>): void {
  const streams = new Map<number, { wake(): void; stop(): void }>();
  port.on('message', (request: Request) => {
    if ('room' in request) streams.get(request.stream)?.wake();
    else if ('stop' in request) streams.get(request.stream)?.stop();
    else void send(request);
  });

  const answer = (message: Answer) => port.postMessage(message);

  async function send({ stream, job, key, options, memory }: Extract<Request, { key: string }>): Promise<void> {
    const served = jobs.get(job);
    const ring = new RingWriter(memory, () => answer({ stream, bytes: true }));
    const stopping = new AbortController();
    let bytes = 0;
    let failed = true;
    let neighbour = false;
    const began = performance.now();
    streams.set(stream, { wake: () => ring.wake(), stop: () => stopping.abort() });
    try {
      if (!served) throw new Error(`no job ${job} is at work`);
      const signal = AbortSignal.any([served.signal, stopping.signal]);
      signal.addEventListener('abort', () => ring.stop(signal.reason as Error), { once: true });
      const object: BucketObject & FromNeighbour = await served.bucket.get(key, {
        ...options,
        into: ring.into,
        signal,
      });
      const { size, etag, modified, version, body } = object;
      neighbour = object.neighbour === true;
      answer({ stream, info: { size, etag, modified, version } });
      for await (const block of body) {
        signal.throwIfAborted();
        served.onRead(block.length, size);
        bytes += block.length;
        const passing = served.pass?.(block.length);
        if (passing !== undefined) await passing;
        await ring.put(block);
      }
      answer({ stream, end: true });
      failed = false;
    } catch (error) {
      // Whoever has read enough of it says so.
      failed = !stopping.signal.aborted && !served?.signal.aborted;
      answer({ stream, error: toThreadError(error) });
    } finally {
      streams.delete(stream);
      served?.onFetched({ bytes, milliseconds: performance.now() - began, failed, neighbour });
    }
  }
}

/** A bucket for a worker, which only reads. */
export function readOnlyBucket(name: string, get: Bucket['get']): Bucket {
  const refuse = (): never => {
    throw new Error('a worker of the cache only reads');
  };
  return { name, get, head: refuse, put: refuse, list: refuse, delete: refuse, close: async () => {} };
}

/** Memory for reads, used again and again. */
class Rings {
  readonly #small: SharedArrayBuffer[] = [];
  readonly #large: SharedArrayBuffer[] = [];
  #usedAt = 0;
  #sweeping: NodeJS.Timeout | undefined;

  take({ range }: GetOptions): SharedArrayBuffer {
    const isSmall = range !== undefined && range.length <= SMALL_RING_BYTES;
    const spare = isSmall ? this.#small : this.#large;
    return spare.pop() ?? makeRing(isSmall ? SMALL_RING_BYTES : RING_BYTES);
  }

  give(memory: SharedArrayBuffer): void {
    const spare = memory.byteLength < RING_BYTES ? this.#small : this.#large;
    spare.push(memory);
    this.#usedAt = performance.now();
    this.#sweeping ??= setInterval(() => this.#sweep(), RING_REST).unref();
  }

  #sweep(): void {
    if (performance.now() - this.#usedAt < RING_REST) return;
    this.#small.length = 0;
    this.#large.length = 0;
    clearInterval(this.#sweeping);
    this.#sweeping = undefined;
  }
}

/** The worker's end: makes a bucket for a job. Only `get` exists there, and a block is valid until the next is asked for. */
export class PortBuckets {
  readonly #port: MessagePort;
  readonly #streams = new Map<number, (answer: Answer) => void>();
  readonly #rings = new Rings();
  #next = 0;

  constructor(port: MessagePort) {
    this.#port = port;
    port.on('message', (answer: Answer) => {
      const hear = this.#streams.get(answer.stream);
      if (isLast(answer)) this.#streams.delete(answer.stream);
      hear?.(answer);
    });
  }

  /** @param signal ends every read that is under way */
  bucket(job: number, name: string, signal: AbortSignal): Bucket {
    return readOnlyBucket(name, (key, options = {}) => this.#get(job, key, options, signal));
  }

  async #get(job: number, key: string, options: GetOptions, signal: AbortSignal): Promise<BucketObject> {
    signal.throwIfAborted();
    const stream = this.#next++;
    const port = this.#port;
    const memory = this.#rings.take(options);
    const ring = new RingReader(memory, () => port.postMessage({ stream, room: true } satisfies Request));
    let info: ObjectInfo | undefined;
    let last: Extract<Answer, { end: true } | { error: ThreadError }> | undefined;
    let wake = () => {};
    let finished = false;
    // Neither side may use the ring any more when the next read gets it.
    const release = () => {
      if (last !== undefined && finished) this.#rings.give(memory);
    };
    this.#streams.set(stream, (answer) => {
      if ('info' in answer) info = answer.info;
      else if (!('bytes' in answer)) {
        last = answer;
        release();
      }
      wake();
    });
    const abort = () => wake();
    signal.addEventListener('abort', abort);

    const finish = () => {
      if (finished) return;
      finished = true;
      signal.removeEventListener('abort', abort);
      if (last === undefined) port.postMessage({ stream, stop: true } satisfies Request);
      release();
    };
    const heard = () =>
      new Promise<void>((resolve) => {
        wake = resolve;
      });
    const isOver = (): boolean => {
      if (last !== undefined && 'error' in last) throw fromThreadError(last.error);
      return last !== undefined;
    };

    const { range, ifMatch, version, checked } = options;
    port.postMessage({
      stream,
      job,
      key,
      options: { range, ifMatch, version, checked },
      memory,
    } satisfies Request);
    try {
      while (info === undefined) {
        if (isOver()) throw new Error('an object came without its facts');
        await heard();
        signal.throwIfAborted();
      }
      return { ...info, body: blocks() };
    } catch (error) {
      finish();
      throw error;
    }

    async function* blocks(): AsyncGenerator<Buffer> {
      try {
        for (;;) {
          signal.throwIfAborted();
          const block = ring.next();
          if (block !== undefined) {
            yield block;
            ring.consumed(block.length);
          } else if (isOver()) return;
          else if (ring.sleep()) await heard();
        }
      } finally {
        finish();
      }
    }
  }
}

function isLast(answer: Answer): boolean {
  return 'end' in answer || 'error' in answer;
}
