import type { Repository } from '../dataset/repository.ts';
import type { Crew, RunningJob } from './crew.ts';
import type { CrewJob } from './crew-protocol.ts';
import type { Rate } from './rate.ts';

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

/** What a queue has to know of a task. */
export interface QueuedTask {
  /** Made when it is started, where more may join it until then. */
  readonly task: CrewJob | (() => CrewJob);
  /** What it holds at most while it runs, in bytes; asked when it is started, where more may join it until then. */
  readonly memory: number | (() => number);
  /** It is over in a moment, and is not counted with those that are not. */
  readonly small: boolean;
  /** How fast it may be fetched. Where others join it who have none, or a wider one, that counts from then on. */
  readonly rate?: Rate | undefined;
}

/** How many jobs there are. */
export interface QueueStats {
  readonly queued: Readonly<Record<Priority, number>>;
  readonly running: number;
  /** What the running ones have still to read, as far as they know. */
  readonly bytesInFlight: number;
}

interface Job extends QueuedTask {
  readonly key: string;
  readonly repository: Repository;
  readonly settled: PromiseWithResolvers<void>;
  shares: number;
  served: boolean;
  rate: Rate | undefined;
  priority: Priority;
  started?: number;
  running?: RunningJob;
}

/** So many small jobs run at a time. */
const SMALL_AT_ONCE = 16;

/** Of each rate, so many small jobs and so many others: more would be no faster. */
const LIMITED_SMALL = 4;
const LIMITED_OTHER = 2;
/** What all that have a rate may hold, as a part of the memory, and beside it: those that have none do not wait for them. */
const LIMITED_MEMORY = 0.5;

export interface QueueLimits {
  /** How many jobs run at a time, small ones not counted; asked anew for each. */
  readonly jobs: () => number;
  /** What all that run may hold, in bytes; one runs in any case. */
  readonly memory: number;
}

const nobodyWants = () => new Error('nobody wants it any more');

/** Small jobs, and the others, which do not wait for each other. */
class Lane {
  readonly queued: Record<Priority, Set<Job>> = { urgent: new Set(), next: new Set(), prefetch: new Set() };
  running = 0;
  /** Of them, those that were started when nobody waited for them. */
  patient = 0;

  next(limit: number): Job | undefined {
    if (this.running >= limit) return undefined;
    const urgent = mostShared(this.queued.urgent);
    // One place is kept for those who wait.
    if (urgent || this.patient >= Math.max(1, limit - 1)) return urgent;
    return first(this.queued.next) ?? first(this.queued.prefetch);
  }

  get isEmpty(): boolean {
    const { urgent, next, prefetch } = this.queued;
    return this.running + urgent.size + next.size + prefetch.size === 0;
  }
}

interface Lanes {
  readonly small: Lane;
  readonly other: Lane;
}

const newLanes = (): Lanes => ({ small: new Lane(), other: new Lane() });

/**
 * Shares jobs between those who want the same, and runs so many at a time, by priority, then in the order in which they came. Those with a
 * rate are apart: slow as they are, they take nobody's place.
 */
export class JobQueue {
  readonly #crew: Pick<Crew, 'run'>;
  readonly #limits: QueueLimits;
  readonly #jobs = new Map<string, Job>();
  readonly #free = newLanes();
  /** Those in which anything waits or runs. */
  readonly #limited = new Map<Rate, Lanes>();
  readonly #running = new Set<Job>();
  #memory = 0;
  #limitedMemory = 0;

  constructor(crew: Pick<Crew, 'run'>, limits: QueueLimits) {
    this.#crew = crew;
    this.#limits = limits;
  }

  /**
   * @param key the same for the same task
   * @param repository its bucket is what the task reads
   */
  share(key: string, repository: Repository, task: QueuedTask, priority: Priority): Share {
    let job = this.#jobs.get(key);
    if (!job) {
      const { rate } = task;
      job = { ...task, key, repository, settled: Promise.withResolvers(), shares: 0, served: false, rate, priority };
      job.settled.promise.catch(() => {});
      this.#jobs.set(key, job);
      this.#laneOf(job).queued[priority].add(job);
      // Later in this turn, others may join or hurry it.
      queueMicrotask(() => this.#start());
    }
    const shared = job;
    shared.shares += 1;
    this.#widen(shared, task.rate);
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

  /** How far into its object the job with this key has read, in bytes; undefined where none runs. */
  position(key: string): number | undefined {
    return this.#jobs.get(key)?.running?.bytesRead;
  }

  /** Whether jobs wait for others to end. */
  get saturated(): boolean {
    const { urgent, next, prefetch } = this.#free.other.queued;
    return urgent.size + next.size + prefetch.size > 0;
  }

  stats(): QueueStats {
    const lanes = [this.#free, ...this.#limited.values()].flatMap(({ small, other }) => [small, other]);
    const count = (priority: Priority) => lanes.reduce((sum, { queued }) => sum + queued[priority].size, 0);
    const queued = { urgent: count('urgent'), next: count('next'), prefetch: count('prefetch') };
    let bytesInFlight = 0;
    for (const { running } of this.#running) bytesInFlight += running?.bytesLeft ?? 0;
    return { queued, running: this.#running.size, bytesInFlight };
  }

  #hurry(job: Job, priority: Priority): void {
    if (PRIORITIES.indexOf(priority) >= PRIORITIES.indexOf(job.priority)) return;
    const { queued } = this.#laneOf(job);
    const waits = queued[job.priority].delete(job);
    job.priority = priority;
    if (!waits) return;
    queued[priority].add(job);
    this.#start();
  }

  /** The widest rate of those who share a job counts, or that one of them has none. */
  #widen(job: Job, rate: Rate | undefined): void {
    if (job.rate === undefined || (rate !== undefined && rate.bytesPerSecond <= job.rate.bytesPerSecond)) return;
    const waits = this.#laneOf(job).queued[job.priority].delete(job);
    job.rate = rate;
    if (waits) this.#laneOf(job).queued[job.priority].add(job);
  }

  #abandon(job: Job): void {
    if (job.running && job.running.fraction > 0.5) return;
    if (this.#jobs.get(job.key) === job) this.#jobs.delete(job.key);
    if (this.#laneOf(job).queued[job.priority].delete(job)) job.settled.reject(nobodyWants());
    else job.running?.abort(nobodyWants());
  }

  #laneOf({ small, rate }: Job): Lane {
    let lanes = rate === undefined ? this.#free : this.#limited.get(rate);
    if (lanes === undefined) {
      lanes = newLanes();
      this.#limited.set(rate!, lanes);
    }
    return small ? lanes.small : lanes.other;
  }

  #start(): void {
    for (;;) {
      const small = this.#free.small.next(SMALL_AT_ONCE);
      const job = small ?? this.#free.other.next(this.#limits.jobs());
      if (!job) break;
      const memory = memoryOf(job);
      // Small ones are bounded by their number.
      if (!small && this.#memory > 0 && this.#memory + memory > this.#limits.memory) break;
      void this.#run(job, memory);
    }
    for (const [rate, lanes] of this.#limited) this.#startLimited(rate, lanes);
  }

  #startLimited(rate: Rate, { small, other }: Lanes): void {
    if (small.isEmpty && other.isEmpty) {
      this.#limited.delete(rate);
      return;
    }
    for (;;) {
      const quick = small.next(LIMITED_SMALL);
      const job = quick ?? other.next(LIMITED_OTHER);
      if (!job) return;
      const memory = memoryOf(job);
      const most = this.#limits.memory * LIMITED_MEMORY;
      if (!quick && this.#limitedMemory > 0 && this.#limitedMemory + memory > most) return;
      void this.#run(job, memory);
    }
  }

  async #run(job: Job, memory: number): Promise<void> {
    const lane = this.#laneOf(job);
    const isLimited = job.rate !== undefined;
    const patient = job.priority !== 'urgent';
    lane.queued[job.priority].delete(job);
    lane.running += 1;
    if (patient) lane.patient += 1;
    this.#running.add(job);
    if (isLimited) this.#limitedMemory += memory;
    else this.#memory += memory;
    job.started = performance.now();
    try {
      const task = typeof job.task === 'function' ? job.task() : job.task;
      const pace = { rate: () => job.rate, isUrgent: () => job.priority === 'urgent' };
      job.running = this.#crew.run(job.repository, task, undefined, pace);
      await job.running.done;
      job.settled.resolve();
    } catch (error) {
      job.settled.reject(error);
    } finally {
      if (this.#jobs.get(job.key) === job) this.#jobs.delete(job.key);
      this.#running.delete(job);
      if (isLimited) this.#limitedMemory -= memory;
      else this.#memory -= memory;
      lane.running -= 1;
      if (patient) lane.patient -= 1;
      this.#start();
    }
  }
}

/** What most wait for; of equals, the one that came first. */
function mostShared(jobs: Set<Job>): Job | undefined {
  let most: Job | undefined;
  for (const job of jobs) if (!most || job.shares > most.shares) most = job;
  return most;
}

function memoryOf({ memory }: QueuedTask): number {
  return typeof memory === 'function' ? memory() : memory;
}

function first<T>(values: Set<T>): T | undefined {
  return values.values().next().value;
}
