import type { Digest } from '../../dataset/digest.ts';
import { CorruptError } from '../../dataset/errors.ts';
import type { ChunkLocation, SegmentLocations } from '../../dataset/location.ts';
import type { Repository } from '../../dataset/repository.ts';
import { openSource } from '../../dataset/source/sources.ts';
import { abortable } from '../../system/abortable.ts';
import type { Cache } from '../cache.ts';
import type { JobQueue, Priority, Share } from '../job-queue.ts';
import type { Rate } from '../rate.ts';
import type { Missing } from '../read-ahead/read-ahead.ts';
import type { LoadedSegment, Place, StagedSource } from '../segment-reader.ts';
import { isDense } from './density.ts';
import type { ExtraBytes } from './extra-bytes.ts';
import { fileJob, fileMemory } from './file-job.ts';
import { chunkMemory, READ_MEMORY } from './memory.ts';
import { Pieces } from './pieces.ts';
import type { Interest, Quest, Taken } from './quests.ts';

/** A file below this, in bytes, is had in a moment. */
const SMALL_FILE = 1024 * 1024;

/** How far a pack's reading may be from what somebody waits for until that is asked for by itself, in bytes. */
const NEAR = 4 * 1024 * 1024;

/** How long what was seen of a pack's density holds, in milliseconds, and of how many packs it is remembered. */
const DENSE_FOR = 5_000;
const DENSE_KEPT = 256;

/** How long a pack that was read for what was ahead is not looked at again, in milliseconds: what it has of the version is there. */
const READ_FOR = 60_000;

/** How long a pack that was found damaged is read chunk by chunk, in milliseconds: it may have been repaired since. */
const DAMAGED_FOR = 600_000;

export interface WaysParts {
  readonly cache: Pick<Cache, 'has'>;
  readonly queue: JobQueue;
  readonly extra: ExtraBytes;
  /** Larger objects of a version with this rate, in bytes, are not fetched ahead. */
  readonly streamOverAt: (rate: Rate | undefined) => number;
  /** How fast the object may be fetched; undefined for as fast as it comes. */
  readonly rateOf: (id: Digest) => Rate | undefined;
  /** Whether a content id is that of a staged version's file: a chunk of a larger file has one that is not. */
  readonly isWanted: (id: Digest) => boolean;
  /** Since when a version is staged, by `performance.now()`. */
  readonly since: (source: StagedSource) => number;
  /** In an object that comes next. */
  readonly join: (id: Digest) => Interest;
}

/** The ways in which an object can come: with its pack, with some neighbours, by itself. */
export interface Ways {
  /** Has a share in what brings the object, until it is there or that has ended. */
  take(quest: Quest, place: Place, byPiece: boolean): Promise<Taken>;
  /** What brings all of a segment that is missing, but for what is streamed. */
  missing(source: StagedSource, segment: LoadedSegment): Iterable<Missing>;
}

export function createWays(parts: WaysParts): Ways {
  const { cache, queue, extra, streamOverAt, rateOf, isWanted, since, join } = parts;
  const pieces = new Pieces(queue);
  const damaged = new Map<string, number>();
  const dense = new Map<string, { is: boolean; locations: SegmentLocations; since: number }>();
  /** Packs that were read for what a version lacked, and when. */
  const read = new WeakMap<StagedSource, Map<Digest, number>>();

  /** Where the chunk lies that is all of this content; undefined where it is not one chunk. */
  function chunkOf({ content, locations }: Place): ChunkLocation | undefined {
    return content.kind === 'chunk' ? locations.get(content.id) : undefined;
  }

  const packKey = (repository: Repository, pack: Digest) => `${repository.id}/pack/${pack}`;

  /** Whether a pack is to be read whole for the sake of something in it. */
  function wantsWhole(repository: Repository, locations: SegmentLocations, pack: Digest): boolean {
    const key = packKey(repository, pack);
    const now = performance.now();
    if (now - (damaged.get(key) ?? Number.NEGATIVE_INFINITY) < DAMAGED_FOR) return false;
    if (queue.has(key)) return true;
    const known = dense.get(key);
    if (known && known.locations === locations && now - known.since < DENSE_FOR) return known.is;
    const is = isDense(pack, locations.values(), (id) => isWanted(id) && !cache.has(id));
    dense.delete(key);
    dense.set(key, { is, locations, since: now });
    if (dense.size > DENSE_KEPT) dense.delete(dense.keys().next().value!);
    return is;
  }

  function sharePack(repository: Repository, locations: SegmentLocations, pack: Digest, priority: Priority): Share {
    const memory = () => {
      let most = 0;
      for (const one of locations.values()) if (one.pack === pack) most = Math.max(most, chunkMemory(one));
      return READ_MEMORY + most;
    };
    const key = packKey(repository, pack);
    const isNew = !queue.has(key);
    const share = queue.share(key, repository, { task: { kind: 'pack', pack }, memory, small: false }, priority);
    // What was seen of it before it was read holds no longer.
    const forget = () => dense.delete(key);
    if (isNew) share.done.then(forget, forget);
    return share;
  }

  function* missing(source: StagedSource, { contents, locations }: LoadedSegment): Generator<Missing> {
    const { repository } = source;
    const rate = source.limits?.rate;
    const most = streamOverAt(rate);
    const done = read.get(source) ?? new Map<Digest, number>();
    read.set(source, done);
    const now = performance.now();
    // Before the file system is asked for every file: a pack has thousands of small ones, of many segments.
    const packs = new Set<Digest>();
    for (const [pack, at] of done) {
      if (now - at < READ_FOR) packs.add(pack);
      else done.delete(pack);
    }
    for (const [id, { content, size }] of contents) {
      if (size > most) continue;
      const pack = content.kind === 'chunk' ? locations.get(id)?.pack : undefined;
      if ((pack !== undefined && packs.has(pack)) || cache.has(id)) continue;
      // What is limited is not spent on what lies between.
      if (pack !== undefined && rate === undefined && wantsWhole(repository, locations, pack)) {
        packs.add(pack);
        const begin = () => {
          const share = sharePack(repository, locations, pack, 'next');
          const ended = share.done.then(() => {
            // What it had passed before the version was there has not come with it.
            if (share.started! >= since(source)) done.set(pack, performance.now());
          });
          return { done: ended, leave: () => share.leave(false) };
        };
        yield { key: pack, begin };
      } else {
        const begin = () => {
          const { quest, leave } = join(id);
          return { done: quest.outcome, leave };
        };
        yield { key: id, begin };
      }
    }
  }

  async function take(quest: Quest, place: Place, byPiece: boolean): Promise<Taken> {
    const chunk = byPiece ? undefined : chunkOf(place);
    if (!chunk) return await follow(quest, await shareFile(quest, place), false);
    const { repository, locations } = place;
    const key = packKey(repository, chunk.pack);
    const rate = rateOf(quest.id);
    // Limited, it is not to pay for what lies beside it; what others pay for, it may have.
    const single = quest.byPiece || rate !== undefined;
    const whole = single ? queue.has(key) : wantsWhole(repository, locations, chunk.pack);
    if (!whole) return await follow(quest, pieces.share(repository, chunk, quest.priority, rate), false);

    // Who waits gets it by itself, where the pack's reading has not come near it; the pack follows.
    let own: Share | undefined;
    const reach = () => {
      const at = queue.position(key);
      const near = at !== undefined && chunk.offset + chunk.stored > at && chunk.offset - at < NEAR;
      if (own || quest.priority !== 'urgent' || near || !extra.take(chunk.stored)) return;
      own = pieces.share(repository, chunk, 'urgent');
      // The pack brings it, should this fail.
      own.done.catch(() => share.hurry('urgent'));
    };
    const share = sharePack(repository, locations, chunk.pack, quest.priority === 'urgent' ? 'next' : quest.priority);
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
    const rate = rateOf(quest.id);
    if (content.kind === 'source') {
      const { bucket } = await openSource(repository, content);
      const task = {
        task: { kind: 'source', content, size },
        memory: READ_MEMORY,
        small: size < SMALL_FILE,
        rate,
      } as const;
      return queue.share(key, { ...repository, bucket }, task, quest.priority);
    }
    const task = fileJob(quest.id, content, locations);
    return queue.share(
      key,
      repository,
      { task, memory: fileMemory(task), small: size < SMALL_FILE, rate },
      quest.priority,
    );
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

  return { take, missing };
}
