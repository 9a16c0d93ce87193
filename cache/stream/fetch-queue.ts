import type { Repository } from '../../dataset/repository.ts';
import type { RunningJob } from '../crew.ts';
import type { PieceListener, StreamJob } from './stream-job.ts';

/** What of `Crew` streams use. */
export interface StreamCrew {
  run(repository: Repository, task: StreamJob, onPiece?: PieceListener): RunningJob;
}

export interface FetchOptions {
  readonly repository: Repository;
  readonly task: StreamJob;
  /** What it brings, in bytes. */
  readonly bytes: number;
  /** Somebody waits for it. */
  readonly urgent: boolean;
  readonly onPiece: PieceListener;
}

/** A fetch that waits or runs. */
export interface Fetch {
  /** Rejects with the reason where it is aborted. When it has settled, no thread works at it any more. */
  readonly done: Promise<void>;
  hurry(): void;
  abort(reason: unknown): void;
}

interface Waiting {
  readonly options: FetchOptions;
  readonly settled: PromiseWithResolvers<void>;
  running?: RunningJob;
}

export interface FetchQueueStats {
  readonly running: number;
  readonly bytesInFlight: number;
  readonly queued: { readonly urgent: number; readonly ahead: number };
}

/** Runs the fetches of all streams, so many bytes at a time: first those that somebody waits for. */
export class FetchQueue {
  readonly #crew: StreamCrew;
  readonly #limit: number;
  readonly #urgent = new Set<Waiting>();
  readonly #ahead = new Set<Waiting>();
  #running = 0;
  #bytes = 0;

  /** @param limit in bytes; one fetch runs in any case */
  constructor(crew: StreamCrew, limit: number) {
    this.#crew = crew;
    this.#limit = limit;
  }

  add(options: FetchOptions): Fetch {
    const waiting: Waiting = { options, settled: Promise.withResolvers() };
    waiting.settled.promise.catch(() => {});
    (options.urgent ? this.#urgent : this.#ahead).add(waiting);
    this.#start();
    return {
      done: waiting.settled.promise,
      hurry: () => {
        if (!this.#ahead.delete(waiting)) return;
        this.#urgent.add(waiting);
        this.#start();
      },
      abort: (reason) => {
        if (this.#urgent.delete(waiting) || this.#ahead.delete(waiting)) waiting.settled.reject(reason);
        else waiting.running?.abort(reason);
      },
    };
  }

  stats(): FetchQueueStats {
    const queued = { urgent: this.#urgent.size, ahead: this.#ahead.size };
    return { running: this.#running, bytesInFlight: this.#bytes, queued };
  }

  #start(): void {
    for (;;) {
      const urgent = first(this.#urgent);
      const next = urgent ?? first(this.#ahead);
      if (!next) return;
      // A quarter is kept for those who wait.
      const limit = urgent ? this.#limit : this.#limit * 0.75;
      if (this.#running > 0 && this.#bytes + next.options.bytes > limit) return;
      void this.#run(next);
    }
  }

  async #run(waiting: Waiting): Promise<void> {
    const { repository, task, bytes, onPiece } = waiting.options;
    this.#urgent.delete(waiting);
    this.#ahead.delete(waiting);
    this.#running += 1;
    this.#bytes += bytes;
    try {
      waiting.running = this.#crew.run(repository, task, onPiece);
      await waiting.running.done;
      waiting.settled.resolve();
    } catch (error) {
      waiting.settled.reject(error);
    } finally {
      this.#running -= 1;
      this.#bytes -= bytes;
      this.#start();
    }
  }
}

function first<T>(values: Set<T>): T | undefined {
  return values.values().next().value;
}
