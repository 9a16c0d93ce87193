import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Mounted, ReaderOrder, ReaderReport, ReadFailure } from './reader-protocol.ts';

export interface ReadersOptions {
  readonly count: number;
  readonly seed: number;
  readonly onFailure: (failure: ReadFailure) => void;
}

/** Processes that read what is mounted on one node. */
export class Readers {
  readonly #options: ReadersOptions;
  readonly #children: Child[] = [];
  #mounts: readonly Mounted[] = [];
  #paused = false;
  #passes = 0;
  #started = 0;

  constructor(options: ReadersOptions) {
    this.#options = options;
    for (let at = 0; at < options.count; at += 1) this.#children.push(this.#start());
  }

  /** What is read from now on. */
  set mounts(mounts: readonly Mounted[]) {
    this.#mounts = mounts;
    this.#order({ mounts });
  }

  pause(paused: boolean): void {
    this.#paused = paused;
    this.#order({ pause: paused });
  }

  /** Reads every file of a mount once. @returns what was wrong */
  async pass(mount: Mounted): Promise<readonly string[]> {
    const number = this.#passes++;
    const [child] = this.#children;
    const { promise, resolve, reject } = Promise.withResolvers<readonly string[]>();
    const hear = (report: ReaderReport) => {
      if ('passed' in report && report.passed === number) resolve(report.failures);
    };
    const gone = () => reject(new Error('the reader is gone'));
    child!.process.on('message', hear).once('exit', gone);
    child!.process.send({ pass: number, of: mount } satisfies ReaderOrder);
    try {
      return await promise;
    } finally {
      child!.process.off('message', hear).off('exit', gone);
    }
  }

  /** Kills one, whatever it waits for, and starts another. */
  async replace(at: number): Promise<void> {
    const child = this.#children[at % this.#children.length]!;
    this.#children[at % this.#children.length] = this.#start();
    await child.kill();
    this.#lost.reads += child.reads;
    this.#lost.bytes += child.bytes;
  }

  readonly #lost = { reads: 0, bytes: 0 };

  totals(): { readonly reads: number; readonly bytes: number; readonly longest: number } {
    const { reads, bytes } = this.#lost;
    return this.#children.reduce(
      (sum, child) => ({
        reads: sum.reads + child.reads,
        bytes: sum.bytes + child.bytes,
        longest: Math.max(sum.longest, child.longest),
      }),
      { reads, bytes, longest: 0 },
    );
  }

  /** What waits longer than `limit` ms, and readers that were not heard of for so long. */
  stuck(limit: number): string[] {
    const now = Date.now();
    return this.#children.flatMap((child) => {
      const found: string[] = [];
      if (child.oldest && child.oldest.waits > limit)
        found.push(`${child.oldest.path} is waited for since ${child.oldest.waits} ms`);
      if (now - child.heard > limit)
        found.push(`reader ${child.process.pid} was not heard of for ${now - child.heard} ms`);
      return found;
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.#children.map((child) => child.kill()));
  }

  #order(order: ReaderOrder): void {
    for (const child of this.#children) if (child.process.connected) child.process.send(order);
  }

  #start(): Child {
    const seed = this.#options.seed * 1000 + this.#started++;
    const child = startChild(seed, this.#options.onFailure);
    child.process.send({ mounts: this.#mounts } satisfies ReaderOrder);
    child.process.send({ pause: this.#paused } satisfies ReaderOrder);
    return child;
  }
}

interface Child {
  readonly process: ChildProcess;
  reads: number;
  bytes: number;
  longest: number;
  heard: number;
  oldest: { readonly path: string; readonly waits: number } | undefined;
  kill(): Promise<void>;
}

function startChild(seed: number, onFailure: (failure: ReadFailure) => void): Child {
  const process = fork(join(import.meta.dirname, 'reader-child.ts'), [String(seed)], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env: { ...globalThis.process.env, UV_THREADPOOL_SIZE: '8' },
    execArgv: ['--wasm-wrapper-tiering-budget=2000000000'],
  });
  const ended = once(process, 'exit');
  const child: Child = {
    process,
    reads: 0,
    bytes: 0,
    longest: 0,
    heard: Date.now(),
    oldest: undefined,
    kill: async () => {
      process.kill('SIGKILL');
      await ended;
    },
  };
  // A message to one that was killed cannot be sent, and need not be.
  process.on('error', () => {});
  process.on('message', (report: ReaderReport) => {
    child.heard = Date.now();
    if ('failed' in report) onFailure(report.failed);
    if (!('alive' in report)) return;
    Object.assign(child, report.alive);
    child.oldest = report.oldest;
  });
  return child;
}
