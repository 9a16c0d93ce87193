import type { Repository } from '../dataset/repository.ts';
import type { Crew, RunningJob } from './crew.ts';
import type { CrewJob } from './crew-protocol.ts';

/** From the first to be served to the last: somebody waits; it comes next in an order that is being read; fetched ahead. */
export const PRIORITIES = ['urgent', 'next', 'prefetch'] as const;
export type Priority = (typeof PRIORITIES)[number];

/** A share in a job. */
export interface Share {
  /** Settles as the job does; an aborted job rejects with the reason. */
  readonly done: Promise<void>;
  /** Whether it was already at work when it was shared, and may have passed what is wanted. */
  readonly underway: boolean;
  /** When it was started, by `performance.now()`. */
  readonly started: number | undefined;
  /** Not later than this; a job never goes back. */
  hurry(priority: Priority): void;
  /**
   * No longer interested. `served`: it has brought what was wanted, and goes on for the sake of the rest. A job that has served
   * nobody and that nobody wants ends, unless it is more than half done.
   */
  leave(served: boolean): void;
}

/** How many jobs there are. */
export interface QueueStats {
  readonly queued: Readonly<Record<Priority, number>>;
  readonly running: number;
  /** What the running ones have still to read, as far as they know. */
  readonly bytesInFlight: number;
}

interface Job {
  readonly key: string;
  readonly repository: Repository;
  readonly task: CrewJob;
  readonly settled: PromiseWithResolvers<void>;
  shares: number;
  served: boolean;
  priority: Priority;
  started?: number;
  running?: RunningJob;
}

const nobodyWants = () => new Error('nobody wants it any more');

/** Shares jobs between those who want the same, and runs so many at a time, by priority, then in the order in which they came. */
export class JobQueue {
  readonly #crew: Crew;
  readonly #limit: number;
  readonly #jobs = new Map<string, Job>();
  readonly #queued: Record<Priority, Set<Job>> = { urgent: new Set(), next: new Set(), prefetch: new Set() };
  readonly #running = new Set<Job>();
  /** Of them, those that were started when nobody waited for them. */
  #patient = 0;

  constructor(crew: Crew, limit: number) {
    this.#crew = crew;
    this.#limit = limit;
  }

  /**
   * @param key the same for the same task
   * @param repository its bucket is what the task reads
   */
  share(key: string, repository: Repository, task: CrewJob, priority: Priority): Share {
    let job = this.#jobs.get(key);
    if (!job) {
      job = { key, repository, task, settled: Promise.withResolvers(), shares: 0, served: false, priority };
      job.settled.promise.catch(() => {});
      this.#jobs.set(key, job);
      this.#queued[priority].add(job);
      // Later in this turn, others may join or hurry it.
      queueMicrotask(() => this.#start());
    }
    const shared = job;
    shared.shares += 1;
    this.#hurry(shared, priority);
    let left = false;
    return {
      done: shared.settled.promise,
      underway: shared.running !== undefined,
      get started() {
        return shared.started;
      },
      hurry: (to) => this.#hurry(shared, to),
      leave: (served) => {
        if (left) return;
        left = true;
        shared.served ||= served;
        shared.shares -= 1;
        if (shared.shares === 0 && !shared.served) this.#abandon(shared);
      },
    };
  }

  /** Whether a job of this key waits or runs. */
  has(key: string): boolean {
    return this.#jobs.has(key);
  }

  stats(): QueueStats {
    const queued = {
      urgent: this.#queued.urgent.size,
      next: this.#queued.next.size,
      prefetch: this.#queued.prefetch.size,
    };
    let bytesInFlight = 0;
    for (const { running } of this.#running) bytesInFlight += running?.bytesLeft ?? 0;
    return { queued, running: this.#running.size, bytesInFlight };
  }

  #hurry(job: Job, priority: Priority): void {
    if (PRIORITIES.indexOf(priority) >= PRIORITIES.indexOf(job.priority)) return;
    const queued = this.#queued[job.priority].delete(job);
    job.priority = priority;
    if (!queued) return;
    this.#queued[priority].add(job);
    this.#start();
  }

  #abandon(job: Job): void {
    if (job.running && job.running.fraction > 0.5) return;
    if (this.#jobs.get(job.key) === job) this.#jobs.delete(job.key);
    if (this.#queued[job.priority].delete(job)) job.settled.reject(nobodyWants());
    else job.running?.abort(nobodyWants());
  }

  #next(): Job | undefined {
    const urgent = first(this.#queued.urgent);
    // One place is kept for those who wait.
    if (urgent || this.#patient >= Math.max(1, this.#limit - 1)) return urgent;
    return first(this.#queued.next) ?? first(this.#queued.prefetch);
  }

  #start(): void {
    while (this.#running.size < this.#limit) {
      const job = this.#next();
      if (!job) return;
      void this.#run(job);
    }
  }

  async #run(job: Job): Promise<void> {
    this.#queued[job.priority].delete(job);
    const patient = job.priority !== 'urgent';
    this.#running.add(job);
    if (patient) this.#patient += 1;
    job.started = performance.now();
    try {
      job.running = this.#crew.run(job.repository, job.task);
      await job.running.done;
      job.settled.resolve();
    } catch (error) {
      job.settled.reject(error);
    } finally {
      if (this.#jobs.get(job.key) === job) this.#jobs.delete(job.key);
      this.#running.delete(job);
      if (patient) this.#patient -= 1;
      this.#start();
    }
  }
}

function first<T>(values: Set<T>): T | undefined {
  return values.values().next().value;
}
