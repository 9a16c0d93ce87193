import { availableParallelism } from 'node:os';
import { MessageChannel, type Worker } from 'node:worker_threads';
import type { Digest } from '../dataset/digest.ts';
import { UnavailableError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import { fromThreadError } from '../dataset/threads/thread-error.ts';
import { startThread } from '../system/thread.ts';
import { type ServedJob, serveBuckets } from './bucket-port.ts';
import type { Cache } from './cache.ts';
import type { CrewJob, CrewOrder, CrewReport, CrewStart } from './crew-protocol.ts';
import { publish } from './events.ts';
import { distrustDamaged } from './neighbours/distrust.ts';
import type { Rate } from './rate.ts';
import type { StageMap } from './stage-map.ts';
import type { PieceListener } from './stream/stream-job.ts';

/** A job that a worker has. */
export interface RunningJob {
  /** Resolves when the worker is through with it. */
  readonly done: Promise<void>;
  /** How much of what it reads was read: 0 to 1. */
  readonly fraction: number;
  /** In bytes; 0 until it ends where the worker reads by itself. */
  readonly bytesRead: number;
  /** What it has still to read, in bytes, as far as that is known. */
  readonly bytesLeft: number;
  abort(reason: unknown): void;
}

/** How fast a job may fetch: asked for each block, for others may have joined it. */
export interface JobPace {
  /** Undefined for as fast as it comes. */
  rate(): Rate | undefined;
  /** Somebody waits for it. */
  isUrgent(): boolean;
}

/** The worker threads of one cache. They start when there is work for them. */
export interface Crew {
  /** Starts one of them, if there is none: who waits first then need not wait for that, some tenths of a second. */
  prepare(): void;
  /** @param repository its bucket is what the task reads: of a source, the bucket where that lies */
  run(repository: Repository, task: CrewJob, onPiece?: PieceListener, pace?: JobPace): RunningJob;
  /** Somebody waits for this object: it is shown as soon as it is written, until `calm` is called. */
  urge(id: Digest): void;
  calm(id: Digest): void;
  /** Objects of this map are wanted, until the function that it gives is called. */
  want(map: StageMap): () => void;
  close(): Promise<void>;
}

interface MemberJob extends ServedJob {
  readonly onPiece: PieceListener | undefined;
  onReadDirectly(bytes: number, failed: boolean): void;
  finish(error?: Error): void;
}

interface Member {
  readonly worker: Worker;
  readonly jobs: Map<number, MemberJob>;
  readonly closed: Promise<void>;
}

export interface CrewOptions {
  readonly cache: Cache;
  /** How many threads; one a core that can be spared, four at most, where it is not said. */
  readonly threads?: number;
  /** Whether workers may open a repository themselves, by its location, rather than read through this thread. */
  readonly readDirectly?: (repository: Repository) => boolean;
  /** What workers may still write: see `openRoom`. */
  readonly room?: SharedArrayBuffer;
  /** Told of bytes that came. `limited`: no faster than they may. */
  readonly onRead?: (bytes: number, limited: boolean) => void;
}

export function createCrew({
  cache,
  room,
  onRead,
  readDirectly = () => false,
  threads = Math.max(1, Math.min(4, availableParallelism() - 1)),
}: CrewOptions): Crew {
  const members: Member[] = [];
  const maps = new Map<number, StageMap>();
  const urgent = new Set<Digest>();
  let serial = 0;
  let closing = false;

  const order = (member: Member, message: CrewOrder) => member.worker.postMessage(message);

  function hire(): Member {
    const { port1, port2 } = new MessageChannel();
    const start: CrewStart = {
      layout: cache.layout,
      writerName: cache.writerName(),
      bootId: cache.bootId,
      room,
      buckets: port2,
    };
    const worker = startThread(new URL('./crew-worker.ts', import.meta.url), {
      workerData: start,
      transferList: [port2],
    });
    const jobs: Member['jobs'] = new Map();
    serveBuckets(port1, jobs);
    const closed = new Promise<void>((resolve) => {
      worker.once('exit', () => {
        port1.close();
        members.splice(members.indexOf(member), 1);
        for (const job of jobs.values())
          job.finish(new UnavailableError('a worker thread of the cache ended: try again'));
        resolve();
      });
    });
    let failure: unknown;
    worker.on('error', (error) => {
      failure = error;
      for (const job of jobs.values()) {
        job.finish(new UnavailableError(`a worker thread of the cache failed: ${error}`, { cause: failure }));
      }
    });
    worker.on('message', (report: CrewReport) => {
      if ('placed' in report) cache.announce(report.placed);
      else if ('retired' in report) cache.adoptJournal(report.retired);
      else if ('pieceOf' in report) jobs.get(report.pieceOf)?.onPiece?.(report.at, report.bytes);
      else if ('done' in report) {
        const job = jobs.get(report.done);
        job?.onReadDirectly(report.read, report.error !== undefined);
        job?.finish(report.error && fromThreadError(report.error));
      }
    });
    const member = { worker, jobs, closed };
    members.push(member);
    for (const [key, map] of maps) order(member, { stageMap: key, file: map.file, root: map.root });
    for (const id of urgent) order(member, { urgent: id });
    return member;
  }

  function leastBusy(): Member {
    const best = members.reduce<Member | undefined>(
      (least, member) => (least && least.jobs.size <= member.jobs.size ? least : member),
      undefined,
    );
    return best && (best.jobs.size === 0 || members.length >= threads) ? best : hire();
  }

  return {
    prepare() {
      if (members.length === 0 && !closing) hire();
    },
    run(repository, task, onPiece, pace) {
      if (closing) throw new UnavailableError('the cache is closing');
      const member = leastBusy();
      const job = serial++;
      const stopping = new AbortController();
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      let read = 0;
      let total = 0;
      const began = performance.now();
      const tell = (from: 'bucket' | 'source', bytes: number, milliseconds: number, failed: boolean) =>
        publish('fetched', {
          cache: cache.layout.directory,
          repository: repository.id,
          from,
          bytes,
          milliseconds,
          failed,
        });
      member.jobs.set(job, {
        bucket: repository.bucket,
        signal: stopping.signal,
        onPiece,
        onRead: (bytes, size) => {
          read += bytes;
          total = Math.max(total, size);
          onRead?.(bytes, pace?.rate() !== undefined);
        },
        pass: (bytes) => pace?.rate()?.take(bytes, pace.isUrgent(), stopping.signal),
        onFetched: ({ bytes, milliseconds, failed, neighbour }) => {
          if (!neighbour) tell(isOfSource(task) ? 'source' : 'bucket', bytes, milliseconds, failed);
        },
        onReadDirectly: (bytes, failed) => {
          onRead?.(bytes, false);
          if (bytes > 0) tell('bucket', bytes, performance.now() - began, failed);
        },
        finish: (error) => {
          member.jobs.delete(job);
          distrustDamaged(repository.bucket, error);
          if (error) reject(stopping.signal.aborted ? stopping.signal.reason : error);
          else resolve();
        },
      });
      order(member, {
        job,
        repository: {
          id: repository.id,
          location: repository.location,
          // Only what this thread reads can be held back.
          direct: !isOfSource(task) && pace?.rate() === undefined && readDirectly(repository),
        },
        task,
      });
      const whole = bytesOf(task);
      return {
        done: promise,
        get fraction() {
          return read / Math.max(1, whole || total);
        },
        get bytesRead() {
          return read;
        },
        get bytesLeft() {
          return Math.max(0, (whole || total) - read);
        },
        abort: (reason) => {
          stopping.abort(reason);
          order(member, { abort: job });
        },
      };
    },
    urge: (id) => {
      if (urgent.has(id)) return;
      urgent.add(id);
      for (const member of members) order(member, { urgent: id });
    },
    calm: (id) => {
      if (urgent.delete(id)) for (const member of members) order(member, { calm: id });
    },
    want: (map) => {
      const key = serial++;
      maps.set(key, map);
      for (const member of members) order(member, { stageMap: key, file: map.file, root: map.root });
      return () => {
        maps.delete(key);
        for (const member of members) order(member, { dropStageMap: key });
      };
    },
    close: async () => {
      closing = true;
      const leaving = [...members];
      for (const member of leaving) order(member, { close: true });
      await Promise.all(leaving.map((member) => member.closed));
    },
  };
}

/** Whether it reads a bucket of someone else's. */
function isOfSource({ kind }: CrewJob): boolean {
  return kind === 'source' || kind === 'stream-range';
}

/** What a job reads, in bytes; 0 where that is not known before. */
function bytesOf(task: CrewJob): number {
  if (task.kind === 'source') return task.size;
  if (task.kind === 'pieces') return task.chunks.reduce((sum, { stored }) => sum + stored, 0);
  return task.kind === 'file' ? task.parts.reduce((sum, { location }) => sum + (location?.stored ?? 0), 0) : 0;
}
