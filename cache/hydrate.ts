import type { Digest } from '../dataset/digest.ts';
import { CorruptError } from '../dataset/errors.ts';
import type { ChunkLocation } from '../dataset/location.ts';
import type { Repository } from '../dataset/repository.ts';
import { openSource } from '../dataset/source/sources.ts';
import type { Cache } from './cache.ts';
import { type Crew, type CrewOptions, createCrew } from './crew.ts';
import { publish } from './events.ts';
import { abortable } from './hydrate/abortable.ts';
import { isDense } from './hydrate/density.ts';
import { ExtraBytes } from './hydrate/extra-bytes.ts';
import { fileJob, fileMemory } from './hydrate/file-job.ts';
import { Pace } from './hydrate/pace.ts';
import { Pieces } from './hydrate/pieces.ts';
import { type PrefetchOptions, type PrefetchProgress, prefetch } from './hydrate/prefetch.ts';
import { createQuests, type Outcome, type Quest, type Taken } from './hydrate/quests.ts';
import { JobQueue, type QueueStats, type Share } from './job-queue.ts';
import { isFull } from './object-writer.ts';
import { openRoom } from './room.ts';
import { type Place, SegmentReader, type StagedSource } from './segment-reader.ts';

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

  /** Whether a registered version has it, or (very rarely) one that looks alike; from memory. */
  knows(id: Digest): boolean;

  /** The threads, for what else fetches; they end with the hydrator. */
  readonly crew: Crew;

  close(): Promise<void>;
}

/** What a hydrator is doing now. */
export interface HydratorStats extends QueueStats {
  readonly waiting: number;
}

export interface Registration extends Disposable {
  dispose(): void;
}

export interface HydratorOptions {
  readonly cache: Cache;
  /** How long to try for an object, in milliseconds. */
  readonly patience?: number;
  /** Larger objects, in bytes, are to be streamed by who opens them: `DEFAULT_STREAM_OVER` if not said. */
  readonly streamOver?: number;
  /** How many packs and large files are read at a time, at most. */
  readonly reads?: number;
  /** What all of them may hold, in bytes: fewer are read at a time where this is less than they need. */
  readonly memory?: number;
  readonly threads?: number;
  /** See `CrewOptions`: for repositories in a directory, whose bucket nothing wraps. */
  readonly readDirectly?: CrewOptions['readDirectly'];
  /** For `openRoom`: what may still be written into the cache. */
  readonly room?: SharedArrayBuffer;
  /** Asked when there is no room for an object of so many bytes. True: there is room now, try again. */
  readonly makeRoom?: (bytes: number) => Promise<boolean>;
}

export const DEFAULT_STREAM_OVER = 64 * 1024 * 1024;

/** What reading a pack holds, in bytes: blocks on their way, and a chunk or two. */
const PACK_MEMORY = 12 * 1024 * 1024;

/** The same for an object that is copied from its bucket. */
const SOURCE_MEMORY = 5 * 1024 * 1024;

/** A file below this, in bytes, is had in a moment. */
const SMALL_FILE = 1024 * 1024;

/** How far a pack's reading may be from what somebody waits for until that is asked for by itself, in bytes. */
const NEAR = 4 * 1024 * 1024;

/** How long a pack that was found damaged is read chunk by chunk, in milliseconds: it may have been repaired since. */
const DAMAGED_FOR = 600_000;

export function createHydrator(options: HydratorOptions): Hydrator {
  const { cache, patience = 30_000, reads = 16, memory = 128 * 1024 * 1024, threads, readDirectly } = options;
  const { streamOver = DEFAULT_STREAM_OVER, makeRoom } = options;
  const room = options.room && openRoom(options.room);
  const onRead = (bytes: number) => {
    pace.note(bytes, queue.saturated);
    extra.note(bytes);
  };
  const crew = createCrew({ cache, threads, readDirectly, room: options.room, onRead });
  const pace = new Pace(Math.max(1, reads));
  const extra = new ExtraBytes();
  const queue = new JobQueue(crew, { jobs: () => pace.limit, memory });
  const pieces = new Pieces(queue);
  const segments = new SegmentReader();
  const sources = new Map<StagedSource, () => void>();
  const damaged = new Map<string, number>();
  const locate = (id: Digest, fresh: boolean) => segments.locate(id, sources.keys(), fresh);
  const quests = createQuests({ cache, crew, patience, streamOver, room, makeRoom, locate, take });

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

  /** Where the chunk lies that is all of this content; undefined where it is not one chunk. */
  function chunkOf({ content, locations }: Place): ChunkLocation | undefined {
    return content.kind === 'chunk' ? locations.get(content.id) : undefined;
  }

  const packKey = (repository: Repository, pack: Digest) => `${repository.id}/pack/${pack}`;

  /** Whether a pack is to be read whole for the sake of something in it. */
  function wantsWhole({ repository, locations }: Place, pack: Digest): boolean {
    const since = damaged.get(packKey(repository, pack));
    if (since !== undefined && performance.now() - since < DAMAGED_FOR) return false;
    return queue.has(packKey(repository, pack)) || isDense(pack, locations.values(), (id) => !cache.has(id));
  }

  async function take(quest: Quest, place: Place, byPiece: boolean): Promise<Taken> {
    const chunk = byPiece ? undefined : chunkOf(place);
    const whole = chunk !== undefined && wantsWhole(place, chunk.pack);
    if (!chunk) return await follow(quest, await shareFile(quest, place), whole);
    if (!whole) return await follow(quest, pieces.share(place.repository, chunk, quest.priority), whole);

    const key = packKey(place.repository, chunk.pack);
    // Who waits gets it by itself, where the pack's reading has not come near it; the pack follows.
    let own: Share | undefined;
    const reach = () => {
      const at = queue.position(key);
      const near = at !== undefined && chunk.offset + chunk.stored > at && chunk.offset - at < NEAR;
      if (own || quest.priority !== 'urgent' || near || !extra.take(chunk.stored)) return;
      own = pieces.share(place.repository, chunk, 'urgent');
      // The pack brings it, should this fail.
      own.done.catch(() => share.hurry('urgent'));
    };
    const pack = { task: { kind: 'pack', pack: chunk.pack }, memory: PACK_MEMORY, small: false } as const;
    const share = queue.share(key, place.repository, pack, quest.priority === 'urgent' ? 'next' : quest.priority);
    reach();
    if (quest.priority === 'urgent' && !own) share.hurry('urgent');
    try {
      return await follow(quest, share, whole, (priority) => {
        reach();
        if (!own) share.hurry(priority);
      });
    } catch (error) {
      if (error instanceof CorruptError) damaged.set(key, performance.now());
      throw error;
    } finally {
      quest.started ??= own?.started;
      own?.leave(true);
    }
  }

  /** What brings one object by itself. */
  async function shareFile(quest: Quest, { repository, content, size, locations }: Place): Promise<Share> {
    const key = `${repository.id}/file/${quest.id}`;
    if (content.kind === 'source') {
      const { bucket } = await openSource(repository, content);
      const task = {
        task: { kind: 'source', content, size },
        memory: SOURCE_MEMORY,
        small: size < SMALL_FILE,
      } as const;
      return queue.share(key, { ...repository, bucket }, task, quest.priority);
    }
    const task = fileJob(quest.id, content, locations);
    return queue.share(key, repository, { task, memory: fileMemory(task), small: size < SMALL_FILE }, quest.priority);
  }

  async function follow(quest: Quest, share: Share, whole: boolean, hurry = share.hurry): Promise<Taken> {
    quest.hurry = hurry;
    let served = false;
    try {
      const ended = share.done.then(() => 'ended' as const);
      const placed = quest.placed.then(() => 'placed' as const);
      const outcome = await abortable(Promise.race([ended, placed]), quest.signal);
      served = outcome === 'placed';
      return { placed: served, underway: share.underway, whole };
    } finally {
      quest.started ??= share.started;
      quest.hurry = () => {};
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
    prefetch: (staged, prefetchOptions = {}) =>
      prefetch({ cache, segments, patience, join: (id) => quests.join(id, 'prefetch') }, staged, prefetchOptions),
    get waiting() {
      return quests.waiting;
    },
    stats: () => ({ waiting: quests.waiting, ...queue.stats() }),
    locate: (id, fresh = false) => locate(id, fresh),
    knows: (id) => sources.keys().some(({ map }) => map.has(id)),
    crew,
    close: async () => {
      quests.close();
      await crew.close();
    },
    [Symbol.asyncDispose]: () => hydrator.close(),
  };
  return hydrator;
}
