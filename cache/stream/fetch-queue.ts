import type { Repository } from '../../dataset/repository.ts';
import type { JobPace, RunningJob } from '../crew.ts';
import type { Rate } from '../rate.ts';
import type { PieceListener, StreamJob } from './stream-job.ts';

/** What of `Crew` streams use. */
export interface StreamCrew {
  run(repository: Repository, task: StreamJob, onPiece?: PieceListener, pace?: JobPace): RunningJob;
}

export interface FetchOptions {
  readonly repository: Repository;
  readonly task: StreamJob;
  /** What it brings, in bytes. */
  readonly bytes: number;
  /** Somebody waits for it. */
  readonly urgent: boolean;
  /** How fast it may come; undefined for as fast as it does. */
  readonly rate?: Rate | undefined;
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
  urgent: boolean;
  running?: RunningJob;
}

/** Of each rate, what a second brings is on its way at a time, or one fetch; of all rates, a part of the limit, and beside it. */
const LIMITED_PART = 0.5;

export interface FetchQueueStats {
  readonly running: number;
  readonly bytesInFlight: number;
  readonly queued: { readonly urgent: number; readonly ahead: number };
}

/**
 * Runs the fetches of all streams, so many bytes at a time: first those that somebody waits for. Those with a rate are apart: slow as they
 * are, they take nobody's place.
 */
export class FetchQueue {
  readonly #crew: StreamCrew;
  readonly #limit: number;
  readonly #urgent = new Set<Waiting>();
  readonly #ahead = new Set<Waiting>();
  /** Those that have a rate and wait. */
  readonly #limited = new Set<Waiting>();
  /** What is on its way, by rate. */
  readonly #limitedBytes = new Map<Rate, number>();
  #running = 0;
  #bytes = 0;

  /** @param limit in bytes; one fetch runs in any case */
  constructor(crew: StreamCrew, limit: number) {
    this.#crew = crew;
    this.#limit = limit;
  }

  add(options: FetchOptions): Fetch {
    const waiting: Waiting = { options, settled: Promise.withResolvers(), urgent: options.urgent };
    waiting.settled.promise.catch(() => {});
    if (options.rate !== undefined) this.#limited.add(waiting);
    else (options.urgent ? this.#urgent : this.#ahead).add(waiting);
    this.#start();
    return {
      done: waiting.settled.promise,
      hurry: () => {
        waiting.urgent = true;
        if (!this.#ahead.delete(waiting)) return;
        this.#urgent.add(waiting);
        this.#start();
      },
      abort: (reason) => {
        const waits = [this.#urgent, this.#ahead, this.#limited].some((queue) => queue.delete(waiting));
        if (waits) waiting.settled.reject(reason);
        else waiting.running?.abort(reason);
      },
    };
  }

  stats(): FetchQueueStats {
    const limited = [...this.#limited];
    const urgent = this.#urgent.size + limited.filter((one) => one.urgent).length;
    const queued = { urgent, ahead: this.#urgent.size + this.#ahead.size + limited.length - urgent };
    return { running: this.#running, bytesInFlight: this.#bytes + sum(this.#limitedBytes.values()), queued };
  }

  #start(): void {
    for (;;) {
      const urgent = first(this.#urgent);
      const next = urgent ?? first(this.#ahead);
      if (!next) break;
      // A quarter is kept for those who wait.
      const limit = urgent ? this.#limit : this.#limit * 0.75;
      if (this.#bytes > 0 && this.#bytes + next.options.bytes > limit) break;
      void this.#run(next);
    }
    if (this.#limited.size > 0) this.#startLimited();
  }

  #startLimited(): void {
    const waiting = [...this.#limited].sort((a, b) => Number(b.urgent) - Number(a.urgent));
    for (const next of waiting) {
      const { rate, bytes } = next.options;
      const all = sum(this.#limitedBytes.values());
      if (all > 0 && all + bytes > this.#limit * LIMITED_PART) return;
      const before = this.#limitedBytes.get(rate!) ?? 0;
      if (before === 0 || before + bytes <= rate!.bytesPerSecond) void this.#run(next);
    }
  }

  #count(rate: Rate | undefined, bytes: number): void {
    if (rate === undefined) {
      this.#bytes += bytes;
      return;
    }
    const now = (this.#limitedBytes.get(rate) ?? 0) + bytes;
    if (now === 0) this.#limitedBytes.delete(rate);
    else this.#limitedBytes.set(rate, now);
  }

  async #run(waiting: Waiting): Promise<void> {
    const { repository, task, bytes, rate, onPiece } = waiting.options;
    this.#urgent.delete(waiting);
    this.#ahead.delete(waiting);
    this.#limited.delete(waiting);
    this.#running += 1;
    this.#count(rate, bytes);
    try {
      waiting.running = this.#crew.run(repository, task, onPiece, { rate: () => rate, isUrgent: () => waiting.urgent });
      await waiting.running.done;
      waiting.settled.resolve();
    } catch (error) {
      waiting.settled.reject(error);
    } finally {
      this.#running -= 1;
      this.#count(rate, -bytes);
      this.#start();
    }
  }
}

function sum(values: Iterable<number>): number {
  let all = 0;
  for (const value of values) all += value;
  return all;
}

function first<T>(values: Set<T>): T | undefined {
  return values.values().next().value;
}
