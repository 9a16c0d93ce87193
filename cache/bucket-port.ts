import type { MessagePort } from 'node:worker_threads';
import type { Bucket, BucketObject, GetOptions, ObjectInfo } from '../dataset/bucket/bucket.ts';
import { type ErrorMessage, errorMessage, errorOf } from './error-message.ts';

/*
 * A bucket's `get` across threads: connections, retries and limits stay on the main thread, in one place, while a worker reads,
 * checks and writes. The worker has at most WINDOW_BYTES of an object ahead of what it consumed.
 */

/** How far the sending side may be ahead, in bytes. */
export const WINDOW_BYTES = 4 * 1024 * 1024;

type Request =
  | { readonly stream: number; readonly job: number; readonly key: string; readonly options: GetOptions }
  | { readonly stream: number; readonly consumed: number }
  | { readonly stream: number; readonly stop: true };

type Answer =
  | { readonly stream: number; readonly info: ObjectInfo }
  | { readonly stream: number; readonly block: Uint8Array }
  | { readonly stream: number; readonly end: true }
  | { readonly stream: number; readonly error: ErrorMessage };

/** The bucket of a job, and to whom to tell how many of an object's bytes were read. */
export interface ServedJob {
  readonly bucket: Bucket;
  readonly signal: AbortSignal;
  onRead(bytes: number, objectSize: number): void;
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

  async function send({ stream, job, key, options }: Extract<Request, { key: string }>): Promise<void> {
    const served = jobs.get(job);
    const stopping = new AbortController();
    let ahead = 0;
    let wake = () => {};
    streams.set(stream, {
      consume: (bytes) => {
        ahead -= bytes;
        wake();
      },
      stop: () => {
        stopping.abort();
        wake();
      },
    });
    try {
      if (!served) throw new Error(`no job ${job} is at work`);
      const signal = AbortSignal.any([served.signal, stopping.signal]);
      signal.addEventListener('abort', () => wake(), { once: true });
      const { size, etag, modified, body } = await served.bucket.get(key, { ...options, signal });
      answer({ stream, info: { size, etag, modified } });
      for await (const block of body) {
        while (ahead >= WINDOW_BYTES && !signal.aborted) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
        signal.throwIfAborted();
        ahead += block.length;
        served.onRead(block.length, size);
        answer({ stream, block });
      }
      answer({ stream, end: true });
    } catch (error) {
      if (!stopping.signal.aborted) answer({ stream, error: errorMessage(error) });
    } finally {
      streams.delete(stream);
    }
  }
}

/** The worker's end: makes a bucket for a job. Only `get` exists there. */
export class PortBuckets {
  readonly #port: MessagePort;
  readonly #streams = new Map<number, (answer: Answer) => void>();
  #next = 0;

  constructor(port: MessagePort) {
    this.#port = port;
    port.on('message', (answer: Answer) => this.#streams.get(answer.stream)?.(answer));
  }

  /** @param signal ends every read that is under way */
  bucket(job: number, name: string, signal: AbortSignal): Bucket {
    const refuse = (): never => {
      throw new Error('a worker of the cache only reads');
    };
    return {
      name,
      get: (key, options = {}) => this.#get(job, key, options, signal),
      head: refuse,
      put: refuse,
      list: refuse,
      delete: refuse,
      close: async () => {},
    };
  }

  async #get(job: number, key: string, options: GetOptions, signal: AbortSignal): Promise<BucketObject> {
    signal.throwIfAborted();
    const stream = this.#next++;
    const answers: Answer[] = [];
    let wake = () => {};
    this.#streams.set(stream, (answer) => {
      answers.push(answer);
      wake();
    });
    const abort = () => wake();
    signal.addEventListener('abort', abort);
    const port = this.#port;
    const streams = this.#streams;

    let ended = false;
    const finish = () => {
      signal.removeEventListener('abort', abort);
      streams.delete(stream);
      if (!ended) port.postMessage({ stream, stop: true } satisfies Request);
      ended = true;
    };
    const next = async (): Promise<Answer> => {
      while (answers.length === 0) {
        signal.throwIfAborted();
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      const answer = answers.shift()!;
      ended = 'end' in answer || 'error' in answer;
      if ('error' in answer) throw errorOf(answer.error);
      return answer;
    };

    port.postMessage({
      stream,
      job,
      key,
      options: { range: options.range, ifMatch: options.ifMatch },
    } satisfies Request);
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
          if (!('block' in answer)) return;
          const { buffer, byteOffset, byteLength } = answer.block;
          yield Buffer.from(buffer, byteOffset, byteLength);
          port.postMessage({ stream, consumed: byteLength } satisfies Request);
        }
      } finally {
        finish();
      }
    }
  }
}
