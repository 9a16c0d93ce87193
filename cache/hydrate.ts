import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '../dataset/digest.ts';
import type { SourceContent } from '../dataset/entry.ts';
import { CorruptError, InvalidError, LarderError, NotFoundError, UnavailableError } from '../dataset/errors.ts';
import { isSourceFault } from '../dataset/source/read-source.ts';
import { openSource } from '../dataset/source/sources.ts';
import type { Cache } from './cache.ts';
import { type CrewOptions, createCrew } from './crew.ts';
import type { FileJob } from './crew-protocol.ts';
import { globMatcher } from './glob.ts';
import { JobQueue, type Share } from './job-queue.ts';
import { type Place, SegmentReader, type StagedSource } from './segment-reader.ts';

export type { StagedSource } from './segment-reader.ts';

/** Brings objects into a cache. */
export interface Hydrator extends AsyncDisposable {
  /** Objects of this version may be asked for, and come along with others of their pack, until it is disposed of. */
  register(staged: StagedSource): Registration;

  /**
   * Brings one object. `ready`: it is in place. `absent`: no registered version has it.
   * Errors: UnavailableError when it could not be had in time, CorruptError when what the repository has of it is damaged; the
   * signal's reason when that is aborted.
   */
  hydrate(id: Digest, options?: { readonly signal?: AbortSignal }): Promise<'ready' | 'absent'>;

  /** Brings everything of a registered version, or what lies under a pattern, behind whatever somebody waits for. */
  prefetch(staged: StagedSource, options?: PrefetchOptions): Promise<PrefetchProgress>;

  /** How many objects somebody waits for now. */
  readonly waiting: number;

  close(): Promise<void>;
}

export interface Registration extends Disposable {
  dispose(): void;
}

export interface PrefetchOptions {
  /** Of paths: see `globMatcher`. */
  readonly pattern?: string;
  readonly onProgress?: (progress: PrefetchProgress) => void;
  readonly signal?: AbortSignal;
}

/** Distinct objects of a version that are in place; totals are known where there is no pattern. */
export interface PrefetchProgress {
  readonly files: number;
  readonly bytes: number;
  readonly totalFiles?: number;
  readonly totalBytes?: number;
}

export interface HydratorOptions {
  readonly cache: Cache;
  /** How long to try for an object, in milliseconds. */
  readonly patience?: number;
  /** How many packs and files are read at a time. */
  readonly reads?: number;
  /** What all of them may hold, in bytes: fewer are read at a time where this is less than they need. */
  readonly memory?: number;
  readonly threads?: number;
  /** See `CrewOptions`: for repositories in a directory, whose bucket nothing wraps. */
  readonly readDirectly?: CrewOptions['readDirectly'];
  /** Asked when the disk is full. True: there is room now, try again. */
  readonly makeRoom?: () => Promise<boolean>;
}

/** What one job holds at most, in bytes: blocks on their way, chunks read ahead and the one that is decoded (16 MiB each). */
const JOB_BYTES = 64 * 1024 * 1024;

const FIRST_PAUSE = 100;
const LONGEST_PAUSE = 5_000;

/** How long a pack that was found damaged is read chunk by chunk, in milliseconds: it may have been repaired since. */
const DAMAGED_FOR = 600_000;

/** No further segment of a prefetch is begun while so many of its objects are on their way. */
const PREFETCH_WIDTH = 4096;

const nobodyWaits = new Error('nobody wants it any more');

/** One object on its way, for all who want it. */
interface Quest {
  readonly id: Digest;
  readonly outcome: Promise<'ready' | 'absent'>;
  readonly placed: PromiseWithResolvers<void>;
  readonly stopping: AbortController;
  interested: number;
  waiting: number;
  share?: Share;
}

export function createHydrator(options: HydratorOptions): Hydrator {
  const { cache, patience = 30_000, reads = 8, memory = 512 * 1024 * 1024, threads, readDirectly, makeRoom } = options;
  const crew = createCrew({ cache, threads, readDirectly });
  const queue = new JobQueue(crew, Math.max(1, Math.min(reads, Math.floor(memory / JOB_BYTES))));
  const segments = new SegmentReader();
  const sources = new Map<StagedSource, () => void>();
  const quests = new Map<Digest, Quest>();
  const damaged = new Map<string, number>();
  let closed = false;

  cache.onPlaced((placed) => {
    if (quests.size > 0) for (const { id } of placed) quests.get(id)?.placed.resolve();
  });

  /** Takes part in bringing an object: until it is there, or until `leave`, which must be called in either case. */
  function join(id: Digest, urgent: boolean): { readonly outcome: Promise<'ready' | 'absent'>; leave(): void } {
    if (closed) throw new UnavailableError('the cache is closing');
    const quest = quests.get(id) ?? begin(id);
    quest.interested += 1;
    if (urgent) {
      quest.waiting += 1;
      crew.urge(id);
      quest.share?.hurry();
    }
    const leave = () => {
      quest.interested -= 1;
      if (urgent) quest.waiting -= 1;
      if (quest.interested > 0) return;
      if (quests.get(id) === quest) quests.delete(id);
      quest.stopping.abort(nobodyWaits);
      crew.calm(id);
    };
    return { outcome: quest.outcome, leave };
  }

  async function hydrate(id: Digest, signal: AbortSignal | undefined): Promise<'ready' | 'absent'> {
    signal?.throwIfAborted();
    if (cache.has(id)) return 'ready';
    const { outcome, leave } = join(id, true);
    try {
      return await abortable(outcome, signal);
    } finally {
      leave();
    }
  }

  function begin(id: Digest): Quest {
    const outcome = Promise.withResolvers<'ready' | 'absent'>();
    const quest: Quest = {
      id,
      outcome: outcome.promise,
      placed: Promise.withResolvers(),
      stopping: new AbortController(),
      interested: 0,
      waiting: 0,
    };
    outcome.promise.catch(() => {});
    quests.set(id, quest);
    bring(quest)
      .then(outcome.resolve, outcome.reject)
      .finally(() => {
        if (quests.get(id) === quest) quests.delete(id);
      });
    return quest;
  }

  async function bring(quest: Quest): Promise<'ready' | 'absent'> {
    const { id } = quest;
    const { signal } = quest.stopping;
    const end = performance.now() + patience;
    let pause = FIRST_PAUSE;
    let fresh = false;
    let byPiece = false;
    let madeRoom = false;
    for (;;) {
      try {
        const place = await segments.locate(id, sources.keys(), fresh);
        if (!place) return cache.has(id) ? 'ready' : 'absent';
        signal.throwIfAborted();
        const whole = byPiece ? undefined : packOf(place);
        const { outcome, underway } = await take(quest, place, whole);
        if (outcome === 'placed' || cache.has(id)) return 'ready';
        // Read to its end, and the object was not in it: the locations were old, or it had gone by before we came.
        if (!underway && whole) byPiece = true;
        fresh = !underway;
      } catch (error) {
        signal.throwIfAborted();
        if (cache.has(id)) return 'ready';
        const full = error instanceof UnavailableError && error.facts.full === true;
        if (error instanceof InvalidError || isMistake(error) || isSourceFault(error)) throw error;
        if (error instanceof CorruptError) {
          // Another chunk of the pack may be the damaged one, or the whole was written anew elsewhere.
          if (byPiece && fresh) throw error;
          if (byPiece) fresh = true;
          byPiece = true;
          continue;
        }
        if (full && !madeRoom && makeRoom && (await makeRoom())) {
          madeRoom = true;
          continue;
        }
        if (full) throw error;
        if (performance.now() + pause > end) throw lastError(id, error, patience);
        // What is named and not there may have been moved by a repack.
        fresh = error instanceof NotFoundError;
        await sleep(pause, undefined, { signal });
        pause = Math.min(LONGEST_PAUSE, pause * 2);
      }
    }
  }

  /** The pack that brings this content whole; undefined where it is not one chunk, or its pack must be read by the piece. */
  function packOf({ repository, content, locations }: Place): Digest | undefined {
    const pack = content.kind === 'chunk' ? locations.get(content.id)?.pack : undefined;
    if (pack === undefined) return undefined;
    const since = damaged.get(`${repository.id}/${pack}`);
    return since !== undefined && performance.now() - since < DAMAGED_FOR ? undefined : pack;
  }

  /** What brings one object alone, and the bucket that it reads. */
  async function jobOf(id: Digest, { repository, content, size, locations }: Place) {
    if (content.kind !== 'source') return { repository, task: fileJob(id, content, locations) };
    const { bucket } = await openSource(repository, content);
    return { repository: { ...repository, bucket }, task: { kind: 'source', content, size } as const };
  }

  /** Has a share in the job that brings the object, until the object is there or the job has ended. */
  async function take(quest: Quest, place: Place, pack: Digest | undefined) {
    const { id } = place.repository;
    const key = pack ? `${id}/pack/${pack}` : `${id}/file/${quest.id}`;
    const { repository, task } = pack
      ? { repository: place.repository, task: { kind: 'pack', pack } as const }
      : await jobOf(quest.id, place);
    const share = queue.share(key, repository, task, quest.waiting > 0);
    quest.share = share;
    let served = false;
    try {
      const ended = share.done.then(() => 'ended' as const);
      const placed = quest.placed.promise.then(() => 'placed' as const);
      const outcome = await abortable(Promise.race([ended, placed]), quest.stopping.signal);
      served = outcome === 'placed';
      return { outcome, underway: share.underway };
    } catch (error) {
      if (pack && error instanceof CorruptError) damaged.set(`${id}/${pack}`, performance.now());
      throw error;
    } finally {
      quest.share = undefined;
      share.leave(served);
    }
  }

  const hydrator: Hydrator = {
    register(staged) {
      const source = { ...staged };
      const forget = crew.want(staged.map);
      sources.set(source, forget);
      const dispose = () => {
        if (sources.delete(source)) forget();
      };
      return { dispose, [Symbol.dispose]: dispose };
    },
    hydrate: (id, { signal } = {}) => hydrate(id, signal),
    prefetch: (staged, prefetchOptions = {}) => prefetch(staged, prefetchOptions),
    get waiting() {
      let count = 0;
      for (const quest of quests.values()) if (quest.waiting > 0) count += 1;
      return count;
    },
    close: async () => {
      closed = true;
      for (const quest of quests.values()) quest.stopping.abort(new UnavailableError('the cache is closing'));
      await crew.close();
    },
    [Symbol.asyncDispose]: () => hydrator.close(),
  };

  async function prefetch(
    staged: StagedSource,
    { pattern, onProgress, signal }: PrefetchOptions,
  ): Promise<PrefetchProgress> {
    const { repository, map } = staged;
    const matches = pattern === undefined ? undefined : globMatcher(pattern);
    const totals = matches ? {} : { totalFiles: map.objects, totalBytes: map.objectBytes };
    const counted = new Uint8Array(Math.ceil(map.size / 8));
    let files = 0;
    let bytes = 0;
    const count = (id: Digest, size: number) => {
      const position = map.position(id);
      const bit = 1 << (position & 7);
      if (counted[position >>> 3]! & bit) return;
      counted[position >>> 3]! |= bit;
      files += 1;
      bytes += size;
      onProgress?.({ files, bytes, ...totals });
    };

    const failures: unknown[] = [];
    const stopping = new AbortController();
    const stop = signal ? AbortSignal.any([signal, stopping.signal]) : stopping.signal;
    // One listener for all that is on its way: a signal's listeners are a list that each new one goes through.
    const leaving = new Set<() => void>();
    let wake = () => {};
    stop.addEventListener('abort', () => {
      for (const leave of leaving) leave();
      leaving.clear();
      wake();
    });
    const bringOne = async (id: Digest, size: number) => {
      let leave: (() => void) | undefined;
      try {
        const joined = join(id, false);
        leave = joined.leave;
        leaving.add(leave);
        // A version that was never registered has nothing to be found by: that is the caller's mistake.
        if ((await joined.outcome) === 'absent') throw new InvalidError('prefetch needs a registered version');
        count(id, size);
      } catch (error) {
        if (stop.aborted) return;
        failures.push(error);
        if (!(error instanceof CorruptError)) stopping.abort(error);
      } finally {
        if (leave && leaving.delete(leave)) leave();
        wake();
      }
    };
    const untilFewerThan = async (width: number) => {
      while (leaving.size >= width && !stop.aborted) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      stop.throwIfAborted();
    };

    try {
      for (const [at, segment] of map.segments.entries()) {
        const following = map.segments[at + 1];
        const { entries } = await retrying(() => segments.load(repository, segment), patience, stop);
        if (following) segments.load(repository, following).catch(() => {});
        for (const entry of entries) {
          if (entry.type !== 'file' || entry.content.kind === 'inline' || matches?.(entry.path) === false) continue;
          const { id } = entry.content;
          if (cache.has(id)) count(id, entry.size);
          else void bringOne(id, entry.size);
        }
        await untilFewerThan(PREFETCH_WIDTH);
      }
      await untilFewerThan(1);
    } catch (error) {
      stopping.abort(error);
      signal?.throwIfAborted();
      if (failures.length === 0) throw error;
    }
    if (failures.length > 0) throw prefetchError(failures);
    return { files, bytes, ...totals };
  }

  return hydrator;
}

function fileJob(
  id: Digest,
  content: Exclude<Place['content'], SourceContent>,
  locations: Place['locations'],
): FileJob {
  const located = (chunk: Digest, length?: number) => {
    const location = locations.get(chunk);
    if (!location) {
      throw new CorruptError(`the locations of object ${id} tell nothing of its chunk ${chunk}: run 'larder verify'`, {
        facts: { object: id, chunk },
      });
    }
    return { chunk, length: length ?? location.length, location };
  };
  if (content.kind === 'chunk') return { kind: 'file', id, parts: [located(content.id)] };
  return {
    kind: 'file',
    id,
    parts: content.parts.map(({ chunk, length }) => (chunk === undefined ? { length } : located(chunk, length))),
  };
}

/** A mistake in the program, which no second try mends: neither an error of ours nor of the system. */
function isMistake(error: unknown): boolean {
  return !(error instanceof LarderError) && (error as NodeJS.ErrnoException).code === undefined;
}

function lastError(id: Digest, error: unknown, patience: number): Error {
  const reason = error instanceof Error ? error.message : String(error);
  if (error instanceof NotFoundError) {
    return new CorruptError(`object ${id} cannot be had, its pack is gone: ${reason}; run 'larder verify'`, {
      cause: error,
      facts: { ...error.facts, object: id },
    });
  }
  return new UnavailableError(`object ${id} could not be had within ${patience / 1000} s: ${reason}`, {
    cause: error,
    facts: { ...(error instanceof LarderError ? error.facts : {}), object: id },
  });
}

function prefetchError(failures: readonly unknown[]): unknown {
  const [first] = failures;
  if (failures.length === 1 || !(first instanceof CorruptError)) return first;
  return new CorruptError(`${failures.length} objects are damaged, the first: ${first.message}`, {
    cause: first,
    facts: { ...first.facts, damaged: failures.length },
  });
}

async function retrying<T>(act: () => Promise<T>, patience: number, signal: AbortSignal): Promise<T> {
  const end = performance.now() + patience;
  for (let pause = FIRST_PAUSE; ; pause = Math.min(LONGEST_PAUSE, pause * 2)) {
    signal.throwIfAborted();
    try {
      return await act();
    } catch (error) {
      if (error instanceof CorruptError || error instanceof InvalidError || performance.now() + pause > end)
        throw error;
    }
    await sleep(pause, undefined, { signal });
  }
}

/** The promise, or the signal's reason once it is aborted. */
function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
