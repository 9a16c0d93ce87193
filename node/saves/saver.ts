import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { getCompileCacheDir } from 'node:module';
import { dirname } from 'node:path';
import { UnavailableError } from '../../dataset/errors.ts';
import { fromThreadError } from '../../dataset/threads/thread-error.ts';
import { removeClones } from '../../mount/snapshot.ts';
import type { CommitJob, CommittedClone, Saved, SaveJob, SaverAnswer, SaverOrder } from './saver-protocol.ts';
import type { SaveProgress } from './saves.ts';

/** The process that saves (saver-process.ts): started with the first order, and again with the next one after its end. */
export interface Saver extends AsyncDisposable {
  /** Errors: UnavailableError where the process ended; what the save fails with; the signal's reason. */
  save(job: Omit<SaveJob, 'kind'>, options: SaveOptions): Promise<Saved>;
  commit(job: Omit<CommitJob, 'kind'>, options?: JobOptions): Promise<CommittedClone>;
  /** Lets go of an index, which is going to be moved or deleted. No save of its workspace may be under way. */
  forget(index: string): Promise<void>;
  /** Its pid, while it runs. */
  pid(): number | undefined;
}

export interface JobOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: SaveProgress) => void;
}

export interface SaveOptions extends JobOptions {
  /** Somebody waits for it. */
  readonly isUrgent: () => boolean;
  /** Its turn has come: from here on, changes may be too late for it. */
  readonly onBegin?: () => void;
  /** Gives a new version its name. @returns whether it has one; what it throws ends the save, as one whose version has none */
  readonly name: (saved: Saved) => Promise<boolean>;
}

export interface SaverParts {
  /** A file: the process that holds it is the only one that has indexes open. */
  readonly lock: string;
  /** For temporary files. */
  readonly temporary: string;
}

/** Saves under way at once, and how many more where somebody waits. */
const SLOTS = 3;
const URGENT_SLOTS = 2;
/** Versions of clones that are made at once. */
const COMMITS = 1;
/** The process is ended when nobody had an order for it for so long, in milliseconds. */
const LINGER = 60_000;
/** A job that does not end when it is told to ends with the process, after so many milliseconds. */
const STUBBORN = 30_000;
/** Indexes that stay open while nobody saves to them. */
const INDEXES = 16;

interface Job {
  readonly order: SaveJob | CommitJob | undefined;
  readonly options: JobOptions & Partial<SaveOptions>;
  readonly result: PromiseWithResolvers<Saved | CommittedClone>;
  saved?: Saved;
  failure?: unknown;
  stubborn?: NodeJS.Timeout;
}

/** Whether the process ended under a save, which another can do. */
export function isEndOfSaver(error: unknown): boolean {
  return error instanceof UnavailableError && error.facts.saverEnded === true;
}

function isUrgent({ options }: Pick<Job, 'options'>): boolean {
  return options.isUrgent?.() ?? false;
}

export function createSaver({ lock, temporary }: SaverParts): Saver {
  let child: ChildProcess | undefined;
  let starting: Promise<ChildProcess> | undefined;
  let idle: NodeJS.Timeout | undefined;
  let closed = false;
  let serial = 0;
  const waiting: Job[] = [];
  const running = new Map<number, Job>();
  /** Workspaces of which a process that ended may have left clones. */
  const unclean = new Map<string, SaveJob>();

  const start = async (): Promise<ChildProcess> => {
    for (const [file, { at }] of unclean) {
      await removeClones({ file, at });
      unclean.delete(file);
    }
    const kept = getCompileCacheDir();
    const started = fork(new URL('./saver-process.ts', import.meta.url), [lock, `${INDEXES}`], {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      env: {
        ...process.env,
        SQLITE_TMPDIR: temporary,
        ...(kept !== undefined && { NODE_COMPILE_CACHE: dirname(kept) }),
      },
    });
    started.on('message', (answer: SaverAnswer) => hear(answer));
    const end = () => {
      if (child === started) ended();
    };
    started.once('exit', end);
    started.once('error', end);
    // It ends with the daemon, and does not keep it.
    started.unref();
    started.channel?.unref();
    child = started;
    return started;
  };

  const ended = () => {
    child = undefined;
    for (const [id, job] of [...running]) {
      if (job.order?.kind === 'save') unclean.set(job.order.file, job.order);
      const message = 'the process that saves ended early: it is started again with the next save';
      const facts = { saverEnded: true };
      finish(id, job.failure ?? job.options.signal?.reason ?? new UnavailableError(message, { facts }));
    }
  };

  const tell = (order: SaverOrder) => {
    if (child?.connected) child.send(order, () => {});
  };

  const finish = (id: number, failure: unknown, value?: Saved | CommittedClone) => {
    const job = running.get(id);
    if (job === undefined) return;
    running.delete(id);
    clearTimeout(job.stubborn);
    if (failure === undefined) job.result.resolve(value as Saved);
    else job.result.reject(failure);
    next();
  };

  const hear = (answer: SaverAnswer) => {
    const job = running.get(answer.job);
    if (job === undefined) return;
    if ('progress' in answer) job.options.onProgress?.(answer.progress);
    else if ('error' in answer)
      finish(answer.job, job.options.signal?.aborted ? job.options.signal.reason : fromThreadError(answer.error));
    else if ('kept' in answer) finish(answer.job, job.failure, job.saved);
    else if ('outcome' in answer.done && answer.done.outcome === 'created') void name(answer.job, job, answer.done);
    else finish(answer.job, undefined, answer.done);
  };

  const name = async (id: number, job: Job, saved: Saved) => {
    let isNamed = false;
    try {
      isNamed = await job.options.name!(saved);
    } catch (error) {
      job.failure = error;
    }
    job.saved = saved;
    // Where the process has ended since, the version has its name all the same.
    if (running.get(id) === job) tell({ job: id, keep: isNamed });
  };

  const count = (kind: 'save' | 'commit') => [...running.values()].filter(({ order }) => order?.kind === kind).length;

  /** What may begin now; those that somebody waits for come first. */
  const takeNext = (): Job | undefined => {
    const saves = count('save');
    const may = ({ order, options }: Job) =>
      order?.kind === 'commit' ? count('commit') < COMMITS : saves < SLOTS + (isUrgent({ options }) ? URGENT_SLOTS : 0);
    const at = waiting.findIndex((job) => isUrgent(job) && may(job));
    const index = at >= 0 ? at : waiting.findIndex(may);
    return index < 0 ? undefined : waiting.splice(index, 1)[0];
  };

  const next = () => {
    clearTimeout(idle);
    for (let job = takeNext(); job !== undefined; job = takeNext()) begin(job);
    if (running.size > 0 || waiting.length > 0 || child === undefined) return;
    idle = setTimeout(() => {
      // Whoever comes now is for the next one.
      child?.kill();
      child = undefined;
    }, LINGER).unref();
  };

  const begin = (job: Job) => {
    const { signal, onBegin } = job.options;
    const id = serial++;
    running.set(id, job);
    const stop = () => {
      tell({ job: id, stop: true });
      job.stubborn = setTimeout(() => child?.kill('SIGKILL'), STUBBORN).unref();
    };
    if (signal?.aborted) {
      finish(id, signal.reason);
      return;
    }
    signal?.addEventListener('abort', stop, { once: true });
    job.result.promise.then(
      () => signal?.removeEventListener('abort', stop),
      () => signal?.removeEventListener('abort', stop),
    );
    onBegin?.();
    const order = () => tell({ job: id, order: job.order! });
    if (child !== undefined) {
      order();
      return;
    }
    starting ??= start().finally(() => {
      starting = undefined;
    });
    starting.then(order, (error) => finish(id, error));
  };

  const run = <Result extends Saved | CommittedClone>(
    order: SaveJob | CommitJob,
    options: Job['options'],
  ): Promise<Result> => {
    if (closed) return Promise.reject(new UnavailableError('the daemon ends'));
    const result = Promise.withResolvers<Saved | CommittedClone>();
    const job: Job = { order, options, result };
    const leave = () => {
      const at = waiting.indexOf(job);
      if (at < 0) return;
      waiting.splice(at, 1);
      result.reject(options.signal!.reason);
    };
    options.signal?.addEventListener('abort', leave, { once: true });
    waiting.push(job);
    next();
    return result.promise.finally(() => options.signal?.removeEventListener('abort', leave)) as Promise<Result>;
  };

  return {
    save: (job, options) => run({ kind: 'save', ...job }, options),
    commit: (job, options = {}) => run({ kind: 'commit', ...job }, options),
    async forget(index) {
      // One that ended, or was never started, has nothing open.
      if (child === undefined) return;
      const result = Promise.withResolvers<Saved | CommittedClone>();
      const id = serial++;
      running.set(id, { order: undefined, options: {}, result });
      tell({ job: id, forget: index });
      await result.promise.catch((error) => {
        if (child !== undefined) throw error;
      });
    },
    pid: () => child?.pid,
    async [Symbol.asyncDispose]() {
      closed = true;
      clearTimeout(idle);
      for (const job of waiting.splice(0)) job.result.reject(new UnavailableError('the daemon ends'));
      await starting?.catch(() => {});
      const last = child;
      if (last === undefined) return;
      const gone = once(last, 'exit');
      last.kill('SIGKILL');
      await gone;
    },
  };
}
