import { availableParallelism } from 'node:os';
import type { Worker } from 'node:worker_threads';
import { giveMemoryBack } from '../../system/calls/memory.ts';
import { startThread } from '../../system/thread.ts';
import { UnavailableError } from '../errors.ts';
import type { Answer, Message } from './serve.ts';
import { fromThreadError } from './thread-error.ts';

export interface PoolOptions {
  /** The module that a thread runs: it calls `serve`. */
  readonly module: URL;
  /** What every thread is given at its start. */
  readonly data: unknown;
  /** Threads; as many as there are processors if not said, two at least: while one waits for a disk, another computes. */
  readonly count?: number;
}

/** A task that a thread works on. */
export interface Job<Result> {
  readonly result: Promise<Result>;
  /** Tells the thread that so many bytes of the parts that it sent are done with, so that it may send as many more. */
  credit(bytes: number): void;
  /** Gives the task something that it takes. To be called while it is under way: what comes earlier or later is lost. */
  give(value: unknown): void;
}

interface Thread {
  readonly worker: Worker;
  readonly exited: Promise<void>;
  readonly open: Set<number>;
  load: number;
}

interface Waiting {
  readonly thread: Thread;
  readonly weight: number;
  readonly part: ((part: unknown) => void) | undefined;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** Threads that all run one module and share work. Each does its tasks in the order in which it gets them. */
export class Pool<Task, Result> implements AsyncDisposable {
  readonly #threads: Thread[] = [];
  readonly #waiting = new Map<number, Waiting>();
  #next = 1;
  #failure: Error | undefined;
  #closing = false;

  constructor({ module, data, count = Math.max(2, availableParallelism()) }: PoolOptions) {
    giveMemoryBack();
    for (let i = 0; i < count; i++) {
      // Little room for young objects: a thread keeps next to none, and a default of tens of megabytes each adds up.
      const worker = startThread(module, { workerData: data, resourceLimits: { maxYoungGenerationSizeMb: 8 } });
      const { promise: exited, resolve: exit } = Promise.withResolvers<void>();
      const thread: Thread = { worker, exited, open: new Set(), load: 0 };
      worker.on('message', (answer: Answer) => this.#take(answer));
      worker.on('error', (error) => this.#fail(error));
      worker.on('exit', (code) => {
        exit();
        if (!this.#closing) this.#fail(new UnavailableError(`a worker thread ended by itself with status ${code}`));
      });
      worker.unref();
      this.#threads.push(thread);
    }
  }

  get size(): number {
    return this.#threads.length;
  }

  /**
   * Gives a task to the thread with the least to do.
   * @param weight the task's cost, in any unit that all tasks share
   * @param part takes what the thread sends before the result
   */
  run(
    task: Task,
    options: { transfer?: ArrayBuffer[]; weight?: number; part?: (part: never) => void } = {},
  ): Job<Result> {
    const { transfer = [], weight = 1, part } = options;
    if (this.#failure) return { result: Promise.reject(this.#failure), credit() {}, give() {} };
    const id = this.#next++;
    const thread = this.#threads.reduce((least, each) => (each.load < least.load ? each : least));
    thread.load += weight;
    thread.open.add(id);
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, { thread, weight, part: part as Waiting['part'], resolve, reject });
    if (this.#waiting.size === 1) for (const { worker } of this.#threads) worker.ref();
    thread.worker.postMessage({ id, task } satisfies Message, transfer);
    // An answer that nobody waits for any more, after a failure elsewhere, is no unhandled rejection.
    promise.catch(() => {});
    return {
      result: promise as Promise<Result>,
      credit: (bytes) => {
        if (this.#waiting.has(id)) thread.worker.postMessage({ id, credit: bytes } satisfies Message);
      },
      give: (value) => {
        if (this.#waiting.has(id)) thread.worker.postMessage({ id, given: value } satisfies Message);
      },
    };
  }

  #take(answer: Answer): void {
    const waiting = this.#waiting.get(answer.id);
    if (waiting === undefined) return;
    if ('part' in answer) {
      waiting.part?.(answer.part);
      return;
    }
    this.#waiting.delete(answer.id);
    waiting.thread.open.delete(answer.id);
    waiting.thread.load -= waiting.weight;
    if (this.#waiting.size === 0) for (const { worker } of this.#threads) worker.unref();
    if ('error' in answer) waiting.reject(fromThreadError(answer.error));
    else waiting.resolve(answer.result);
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  /** Ends the threads, each once it is not inside a task's call; what they work on is dropped. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#fail(new UnavailableError('the worker threads were ended'));
    for (const { worker } of this.#threads) {
      worker.ref();
      worker.postMessage('end' satisfies Message);
    }
    await Promise.all(this.#threads.map(({ exited }) => exited));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
