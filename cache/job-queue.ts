import type { Repository } from '../dataset/repository.ts';
import type { Crew, RunningJob } from './crew.ts';
import type { CrewJob } from './crew-protocol.ts';

/** A share in a job. */
export interface Share {
  /** Settles as the job does; an aborted job rejects with the reason. */
  readonly done: Promise<void>;
  /** Whether it was already at work when it was shared, and may have passed what is wanted. */
  readonly underway: boolean;
  /** Somebody waits: before all that nobody waits for. */
  hurry(): void;
  /**
   * No longer interested. `served`: it has brought what was wanted, and goes on for the sake of the rest. A job that has served
   * nobody and that nobody wants ends, unless it is more than half done.
   */
  leave(served: boolean): void;
}

interface Job {
  readonly key: string;
  readonly repository: Repository;
  readonly task: CrewJob;
  readonly settled: PromiseWithResolvers<void>;
  shares: number;
  served: boolean;
  urgent: boolean;
  running?: RunningJob;
}

/** Shares jobs between those who want the same, and runs so many at a time: those that somebody waits for first. */
export class JobQueue {
  readonly #crew: Crew;
  readonly #limit: number;
  readonly #jobs = new Map<string, Job>();
  readonly #urgent = new Set<Job>();
  readonly #patient = new Set<Job>();
  #running = 0;
  #patientRunning = 0;

  constructor(crew: Crew, limit: number) {
    this.#crew = crew;
    this.#limit = limit;
  }

  /**
   * @param key the same for the same task
   * @param repository its bucket is what the task reads
   */
  share(key: string, repository: Repository, task: CrewJob, urgent: boolean): Share {
    let job = this.#jobs.get(key);
    if (!job) {
      job = { key, repository, task, settled: Promise.withResolvers(), shares: 0, served: false, urgent };
      job.settled.promise.catch(() => {});
      this.#jobs.set(key, job);
      (urgent ? this.#urgent : this.#patient).add(job);
      // Later in this turn, others may join or hurry it.
      queueMicrotask(() => this.#start());
    }
    const shared = job;
    shared.shares += 1;
    if (urgent) this.#hurry(shared);
    let left = false;
    return {
      done: shared.settled.promise,
      underway: shared.running !== undefined,
      hurry: () => this.#hurry(shared),
      leave: (served) => {
        if (left) return;
        left = true;
        shared.served ||= served;
        shared.shares -= 1;
        if (shared.shares === 0 && !shared.served) this.#abandon(shared);
      },
    };
  }

  #hurry(job: Job): void {
    job.urgent = true;
    if (this.#patient.delete(job)) {
      this.#urgent.add(job);
      this.#start();
    }
  }

  #abandon(job: Job): void {
    if (job.running && job.running.fraction > 0.5) return;
    if (this.#jobs.get(job.key) === job) this.#jobs.delete(job.key);
    if (this.#urgent.delete(job) || this.#patient.delete(job))
      job.settled.reject(new Error('nobody wants it any more'));
    else job.running?.abort(new Error('nobody wants it any more'));
  }

  #start(): void {
    while (this.#running < this.#limit) {
      // One place is kept for those who wait.
      const patientMay = this.#patientRunning < Math.max(1, this.#limit - 1);
      const job = first(this.#urgent) ?? (patientMay ? first(this.#patient) : undefined);
      if (!job) return;
      void this.#run(job);
    }
  }

  async #run(job: Job): Promise<void> {
    this.#urgent.delete(job);
    this.#patient.delete(job);
    const patient = !job.urgent;
    this.#running += 1;
    if (patient) this.#patientRunning += 1;
    try {
      job.running = this.#crew.run(job.repository, job.task);
      await job.running.done;
      job.settled.resolve();
    } catch (error) {
      job.settled.reject(error);
    } finally {
      if (this.#jobs.get(job.key) === job) this.#jobs.delete(job.key);
      this.#running -= 1;
      if (patient) this.#patientRunning -= 1;
      this.#start();
    }
  }
}

function first<T>(values: Set<T>): T | undefined {
  return values.values().next().value;
}
