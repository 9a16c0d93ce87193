import type { MessagePort } from 'node:worker_threads';
import type { Bucket, BucketObject, GetOptions, ObjectInfo } from '../dataset/bucket/bucket.ts';
import { fromThreadError, type ThreadError, toThreadError } from '../dataset/threads/thread-error.ts';

/*
 * A bucket's `get` across threads: connections, retries and limits stay on the main thread, in one place, while a worker reads,
 * checks and writes. The bytes go through a ring of shared memory for each read, so that they are copied once, and no message has
 * any; its size is how far the main thread may be ahead.
 */

/** Of one ring, in bytes. */
export const WINDOW_BYTES = 4 * 1024 * 1024;

type Request =
  | {
      readonly stream: number;
      readonly job: number;
      readonly key: string;
      readonly options: GetOptions;
      readonly window: SharedArrayBuffer;
    }
  | { readonly stream: number; readonly consumed: number }
  | { readonly stream: number; readonly stop: true };

/** The last one of a stream is `end` or `error`: after it, the ring is the worker's again. */
type Answer =
  | { readonly stream: number; readonly info: ObjectInfo }
  | { readonly stream: number; readonly from: number; readonly length: number }
  | { readonly stream: number; readonly end: true }
  | { readonly stream: number; readonly error: ThreadError };

/** The bucket of a job, and to whom to tell how many of an object's bytes were read. */
export interface ServedJob {
  readonly bucket: Bucket;
  readonly signal: AbortSignal;
  onRead(bytes: number, objectSize: number): void;
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
  const streams = new Map<number, { consume(bytes: number): void; stop(): void }>();
  port.on('message', (request: Request) => {
    if ('consumed' in request) streams.get(request.stream)?.consume(request.consumed);
    else if ('stop' in request) streams.get(request.stream)?.stop();
    else void send(request);
  });

  const answer = (message: Answer) => port.postMessage(message);

  async function send({ stream, job, key, options, window }: Extract<Request, { key: string }>): Promise<void> {
    const served = jobs.get(job);
    const ring = new Uint8Array(window);
    const stopping = new AbortController();
    let written = 0;
    let consumed = 0;
    let wake = () => {};
    let failed = true;
    let neighbour = false;
    const began = performance.now();
    streams.set(stream, {
      consume: (bytes) => {
        consumed += bytes;
        wake();
      },
      stop: () => stopping.abort(),
    });
    try {
      if (!served) throw new Error(`no job ${job} is at work`);
      const signal = AbortSignal.any([served.signal, stopping.signal]);
      signal.addEventListener('abort', () => wake(), { once: true });
      const object: BucketObject & FromNeighbour = await served.bucket.get(key, { ...options, signal });
      const { size, etag, modified, version, body } = object;
      neighbour = object.neighbour === true;
      answer({ stream, info: { size, etag, modified, version } });
      for await (const block of body) {
        served.onRead(block.length, size);
        for (let at = 0; at < block.length; ) {
          while (written - consumed === ring.length && !signal.aborted) {
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
          }
          signal.throwIfAborted();
          const from = written % ring.length;
          const length = Math.min(block.length - at, ring.length - (written - consumed), ring.length - from);
          ring.set(block.subarray(at, at + length), from);
          written += length;
          at += length;
          answer({ stream, from, length });
        }
      }
      answer({ stream, end: true });
      failed = false;
    } catch (error) {
      // Whoever has read enough of it says so.
      failed = !stopping.signal.aborted && !served?.signal.aborted;
      answer({ stream, error: toThreadError(error) });
    } finally {
      streams.delete(stream);
      served?.onFetched({ bytes: written, milliseconds: performance.now() - began, failed, neighbour });
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

/** The worker's end: makes a bucket for a job. Only `get` exists there, and a block is valid until the next is asked for. */
export class PortBuckets {
  readonly #port: MessagePort;
  readonly #streams = new Map<number, (answer: Answer) => void>();
  readonly #windows: SharedArrayBuffer[] = [];
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
    const window = this.#windows.pop() ?? new SharedArrayBuffer(WINDOW_BYTES);
    const port = this.#port;
    const answers: Answer[] = [];
    let wake = () => {};
    let heardLast = false;
    let finished = false;
    // Neither side may use the ring any more when the next read gets it.
    const release = () => {
      if (heardLast && finished) this.#windows.push(window);
    };
    this.#streams.set(stream, (answer) => {
      answers.push(answer);
      wake();
      if (!isLast(answer)) return;
      heardLast = true;
      release();
    });
    const abort = () => wake();
    signal.addEventListener('abort', abort);

    const finish = () => {
      if (finished) return;
      finished = true;
      signal.removeEventListener('abort', abort);
      if (!heardLast) port.postMessage({ stream, stop: true } satisfies Request);
      release();
    };
    const next = async (): Promise<Answer> => {
      while (answers.length === 0) {
        signal.throwIfAborted();
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      const answer = answers.shift()!;
      if ('error' in answer) throw fromThreadError(answer.error);
      return answer;
    };

    const { range, ifMatch, version } = options;
    const asked = { range, ifMatch, version };
    port.postMessage({ stream, job, key, options: asked, window } satisfies Request);
    try {
      const first = await next();
      if (!('info' in first)) throw new Error('an object came without its facts');
      return { ...first.info, body: blocks() };
    } catch (error) {
      finish();
      throw error;
    }

    async function* blocks(): AsyncGenerator<Buffer> {
      try {
        for (;;) {
          const answer = await next();
          if (!('length' in answer)) return;
          yield Buffer.from(window, answer.from, answer.length);
          port.postMessage({ stream, consumed: answer.length } satisfies Request);
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
