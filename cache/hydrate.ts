import type { Digest } from '../dataset/digest.ts';
import { abortable } from '../system/abortable.ts';
import type { Cache } from './cache.ts';
import { type Crew, type CrewOptions, createCrew } from './crew.ts';
import { publish } from './events.ts';
import { ExtraBytes } from './hydrate/extra-bytes.ts';
import { Pace } from './hydrate/pace.ts';
import { type PrefetchOptions, type PrefetchProgress, prefetch } from './hydrate/prefetch.ts';
import { createQuests, type Outcome } from './hydrate/quests.ts';
import { createWays } from './hydrate/ways.ts';
import { JobQueue, type QueueStats } from './job-queue.ts';
import { isFull } from './object-writer.ts';
import type { Rate } from './rate.ts';
import { createReadAhead } from './read-ahead/read-ahead.ts';
import { openRoom } from './room.ts';
import { type Place, SegmentReader, type StagedSource } from './segment-reader.ts';
import { patienceFor, rateFor } from './source-limits.ts';

export type { PrefetchOptions, PrefetchProgress } from './hydrate/prefetch.ts';
export type { StagedSource } from './segment-reader.ts';

/** Brings objects into a cache. */
export interface Hydrator extends AsyncDisposable {
  /** Objects of this version may be asked for, and come along with others of their pack, until it is disposed of. */
  register(staged: StagedSource): Registration;

  /**
   * Brings one object. `ready`: it is in place. `absent`: no registered version has it. `stream`: it is larger than `streamOver`, or
   * the cache has no room for it.
   * Errors: UnavailableError when it could not be had in time, CorruptError when what the repository has of it is damaged; the
   * signal's reason when that is aborted.
   */
  hydrate(id: Digest, options?: { readonly signal?: AbortSignal }): Promise<Outcome>;

  /** Brings one object that nobody waits for, whatever its size. Errors: as `hydrate`, and UnavailableError with `facts.full`. */
  bring(id: Digest, options?: { readonly signal?: AbortSignal }): Promise<'ready' | 'absent'>;

  /**
   * Brings everything of a registered version, or what lies under a pattern, behind whatever somebody waits for.
   * Errors: as `hydrate`; UnavailableError with `facts.full`, `facts.files` and `facts.totalFiles` where the room ended.
   */
  prefetch(staged: StagedSource, options?: PrefetchOptions): Promise<PrefetchProgress>;

  /** How many objects somebody waits for now. */
  readonly waiting: number;

  stats(): HydratorStats;

  /** Where an object is, of the registered versions; `fresh`: what is known of it may be old. */
  locate(id: Digest, fresh?: boolean): Promise<Place | undefined>;

  /** How long to try for an object, in milliseconds: the longest of the registered versions that have it. */
  patienceOf(id: Digest): number;

  /** How fast an object may be fetched: the widest rate of the registered versions that have it; undefined where one has none. */
  rateOf(id: Digest): Rate | undefined;

  /** Whether a registered version has it, or (very rarely) one that looks alike; from memory. */
  knows(id: Digest): boolean;

  /** The threads, for what else fetches; they end with the hydrator. */
  readonly crew: Crew;

  close(): Promise<void>;
}

/** What a hydrator is doing now. */
export interface HydratorStats extends QueueStats {
  readonly waiting: number;
  /** How many packs and large files are read at a time now: it follows what that brings. */
  readonly reads: number;
}

export interface Registration extends Disposable {
  dispose(): void;
}

export interface HydratorOptions {
  readonly cache: Cache;
  /** How long to try for an object where its version does not say, in milliseconds. */
  readonly patience?: number;
  /** Larger objects, in bytes, are to be streamed by who opens them: `DEFAULT_STREAM_OVER` if not said. */
  readonly streamOver?: number;
  /** How many packs and large files are read at a time, at most. */
  readonly reads?: number;
  /** What all of them may hold, in bytes: fewer are read at a time where this is less than they need. */
  readonly memory?: number;
  readonly threads?: number;
  /** Whether what seems to come next is fetched before anyone asks for it; it is, if not said. */
  readonly readAhead?: boolean;
  /** See `CrewOptions`: for repositories in a directory, whose bucket nothing wraps. */
  readonly readDirectly?: CrewOptions['readDirectly'];
  /** For `openRoom`: what may still be written into the cache. */
  readonly room?: SharedArrayBuffer;
  /** Asked when there is no room for an object of so many bytes. True: there is room now, try again. */
  readonly makeRoom?: (bytes: number) => Promise<boolean>;
}

export const DEFAULT_STREAM_OVER = 64 * 1024 * 1024;

/** A file that takes longer than so many seconds, where it comes no faster than it may, is read while it is fetched; in bytes, no smaller. */
const LIMITED_SECONDS = 1;
const LIMITED_FILE = 1024 * 1024;

/** What reading ahead leaves of the room, in bytes. */
const READ_AHEAD_RESERVE = 64 * 1024 * 1024;

/** Packs and objects that reading ahead has on their way at a time. */
const READ_AHEAD_WIDTH = 24;

export function createHydrator(options: HydratorOptions): Hydrator {
  const { cache, patience = 30_000, reads = 16, memory = 128 * 1024 * 1024, threads, readDirectly } = options;
  const { streamOver = DEFAULT_STREAM_OVER, makeRoom } = options;
  const room = options.room && openRoom(options.room);
  const onRead = (bytes: number, limited: boolean) => {
    if (!limited) pace.note(bytes, queue.saturated);
    extra.note(bytes);
  };
  const crew = createCrew({ cache, threads, readDirectly, room: options.room, onRead });
  const pace = new Pace(Math.max(1, reads));
  const extra = new ExtraBytes();
  const queue = new JobQueue(crew, { jobs: () => pace.limit, memory });
  const segments = new SegmentReader();
  const sources = new Map<StagedSource, { readonly since: number; forget(): void }>();
  const knows = (id: Digest) => sources.keys().some(({ map }) => map.has(id));
  const patienceOf = (id: Digest) => patienceFor(id, () => sources.keys(), patience);
  const rateOf = (id: Digest) => rateFor(id, () => sources.keys());
  const streamOverAt = (rate: Rate | undefined) =>
    rate ? Math.min(streamOver, Math.max(LIMITED_FILE, rate.bytesPerSecond * LIMITED_SECONDS)) : streamOver;
  const locate = (id: Digest, fresh: boolean) => segments.locate(id, sources.keys(), fresh);
  const { take, missing } = createWays({
    cache,
    queue,
    extra,
    streamOverAt,
    rateOf,
    isWanted: knows,
    since: (source) => sources.get(source)?.since ?? Number.POSITIVE_INFINITY,
    join: (id) => quests.join(id, 'next'),
  });
  const readAhead = createReadAhead({
    load: ({ repository }, segment) => segments.load(repository, segment),
    missing,
    hasRoom: () => !room || room.bytes > READ_AHEAD_RESERVE,
    width: READ_AHEAD_WIDTH,
    patience,
  });
  const onMiss = options.readAhead === false ? undefined : readAhead.miss;
  const quests = createQuests({
    cache,
    crew,
    patience: patienceOf,
    streamOver: (id) => streamOverAt(rateOf(id)),
    room,
    makeRoom,
    locate,
    ...(onMiss && { onMiss }),
    take,
  });

  async function hydrate(id: Digest, signal: AbortSignal | undefined): Promise<Outcome> {
    signal?.throwIfAborted();
    if (cache.has(id)) return 'ready';
    const began = performance.now();
    const { quest, leave } = quests.join(id, 'urgent');
    const tell = (outcome: Outcome | 'failed' | 'abandoned', error?: unknown) => {
      const { place, located, started } = quest;
      publish('missed', {
        cache: cache.layout.directory,
        id,
        ...(place && { repository: place.repository.id, version: place.version, bytes: place.size }),
        outcome,
        ...(error !== undefined && { error }),
        began,
        // What others had set going before has no marks before this wait.
        ...(located !== undefined && { located: Math.max(began, located) }),
        ...(started !== undefined && { started: Math.max(began, started) }),
        ended: performance.now(),
      });
    };
    try {
      const large = quest.large.then(() => 'stream' as const);
      const outcome = await abortable(Promise.race([quest.outcome, large]), signal);
      tell(outcome);
      return outcome;
    } catch (error) {
      if (signal?.aborted) tell('abandoned');
      else if (isFull(error)) {
        tell('stream');
        return 'stream';
      } else tell('failed', error);
      throw error;
    } finally {
      leave();
    }
  }

  async function bring(id: Digest, signal: AbortSignal | undefined): Promise<'ready' | 'absent'> {
    for (;;) {
      signal?.throwIfAborted();
      if (cache.has(id)) return 'ready';
      const { quest, leave } = quests.join(id, 'prefetch', true);
      try {
        const outcome = await abortable(quest.outcome, signal);
        // Those who waited went off to stream it.
        if (outcome !== 'stream') return outcome;
      } finally {
        leave();
      }
    }
  }

  const hydrator: Hydrator = {
    register(staged) {
      const source = { ...staged };
      const unwant = crew.want(staged.map);
      const unfollow = readAhead.follow(source);
      const forget = () => {
        unfollow();
        unwant();
      };
      sources.set(source, { since: performance.now(), forget });
      const dispose = () => {
        if (sources.delete(source)) forget();
      };
      return { dispose, [Symbol.dispose]: dispose };
    },
    hydrate: (id, { signal } = {}) => hydrate(id, signal),
    bring: (id, { signal } = {}) => bring(id, signal),
    prefetch: (staged, prefetchOptions = {}) =>
      prefetch(
        { cache, segments, patience, join: (id, byPiece) => quests.join(id, 'prefetch', byPiece) },
        staged,
        prefetchOptions,
      ),
    get waiting() {
      return quests.waiting;
    },
    stats: () => ({ waiting: quests.waiting, reads: pace.limit, ...queue.stats() }),
    locate: (id, fresh = false) => locate(id, fresh),
    patienceOf,
    rateOf,
    knows,
    crew,
    close: async () => {
      readAhead.close();
      quests.close();
      await crew.close();
    },
    [Symbol.asyncDispose]: () => hydrator.close(),
  };
  return hydrator;
}
