import { statfs } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '../dataset/digest.ts';
import { DiskFullError } from '../dataset/errors.ts';
import type { Cache } from './cache.ts';
import { publish } from './events.ts';
import { type Evicted, type EvictionPlan, evict, planEviction } from './evict.ts';
import { folderUsage } from './folder-usage.ts';
import type { CacheIndex } from './index.ts';
import type { KnownVersion } from './known-versions.ts';
import { openRoom } from './room.ts';
import { type DiskSpace, type ResolvedLimits, resolveLimits, roomFor, type SpaceLimits } from './space-limits.ts';
import { type EvictionProgress, newProgress, type VersionBook } from './victims.ts';

/** Keeps a cache within its limits: tells its writers how much they may write, and evicts before they meet the end of it. */
export interface Capacity extends AsyncDisposable {
  /** Resolves when the room is known. */
  readonly ready: Promise<void>;
  /** @returns whether there is room for so many bytes now. Versions not in use go for it. */
  makeRoom(bytes: number): Promise<boolean>;
  readonly making: Making;
  evict(request: EvictRequest): Promise<EvictionResult>;
  /** What `evict` would remove. */
  plan(request: EvictRequest): Promise<EvictionPlan>;
  /** Nothing of this version is evicted until it is disposed of. */
  keep(version: Digest): Disposable;
  /** As they were set. */
  readonly limits: SpaceLimits;
  setLimits(limits: SpaceLimits): Promise<void>;
  /** Looks at the disk and at what the cache takes, now. */
  refresh(): Promise<void>;
  stats(): CapacityStats;
  close(): Promise<void>;
}

/**
 * Makes a file in the cache's directory that is no object, and that a mount needs: a version's image, a workspace. Its room is taken first;
 * versions not in use go for it, and then as many bytes of cached objects of those in use, which can be streamed.
 * @param what names it in the error
 * @param bytes that it will take of the disk, about
 * @throws DiskFullError where the disk has no room
 */
export type Making = <T>(what: string, bytes: number, make: () => Promise<T>) => Promise<T>;

export interface EvictRequest {
  /** How much is wanted, in bytes; everything that may go where it is not said. */
  readonly bytes?: number;
  readonly only?: (known: KnownVersion) => boolean;
  /** Also of mounted versions: see `VictimOptions`. */
  readonly mounted?: boolean;
}

export interface EvictionResult {
  readonly objects: number;
  readonly bytes: number;
  /**
   * By how much the disk's free space grew, in bytes. Less than `bytes` where somebody still has a removed object open; more or
   * less where others write to that disk.
   */
  readonly freed: number;
}

/** In bytes where nothing else is said. */
export interface CapacityStats {
  /** Of the cache's directory; absent where the disk alone limits it. */
  readonly limit?: number;
  readonly minFree: number;
  readonly diskBytes: number;
  readonly diskFree: number;
  /** What the cache's directory takes: objects, and everything else with what is being written. */
  readonly held: number;
  /** What may still be written; negative where there is more than there may be. */
  readonly room: number;
  readonly evicting: boolean;
  /** Since the daemon started. */
  readonly evictedObjects: number;
  readonly evictedBytes: number;
}

export interface CapacityOptions {
  readonly cache: Cache;
  readonly index: CacheIndex;
  readonly book: VersionBook;
  /** Of `createRoom`: kept current from now on. */
  readonly room: SharedArrayBuffer;
  readonly limits?: SpaceLimits;
  /** Before this resolves, no more is looked at than the room needs: the disk, and what the cache takes where that is limited. */
  readonly after?: Promise<unknown>;
  /** What partial files take on the disk, in bytes. */
  readonly partialBytes?: () => number;
  /** Makes mounts let go of removed objects, whose blocks they keep. */
  readonly release?: () => Promise<unknown>;
  /** Whether nothing is being written into the cache now. */
  readonly isIdle?: () => boolean;
  readonly onWarning?: (message: string) => void;
  /** How often the disk is looked at, in milliseconds. */
  readonly interval?: number;
  /** How often the cache's other folders are looked at, in milliseconds. */
  readonly othersInterval?: number;
}

const INTERVAL = 1_000;

/** The other folders are looked at again after this, in milliseconds, and after this many times what the look took. */
const OTHERS_INTERVAL = 10_000;
const OTHERS_SHARE = 100;

/** Counted by the index, by the streams, or as what is pending. */
const COUNTED_ELSEWHERE = new Set(['objects', 'late', 'incoming', 'partial']);

/** How long who waits for room waits for an eviction, in milliseconds: then the file is streamed, and evicting goes on. */
const PATIENCE = 500;

/** When nothing may go, how long until it is looked for again though nothing changed, in milliseconds. */
const BARREN_FOR = 60_000;

/** At least this much of what was removed must come back; else mounts are asked to let go, and again after so many milliseconds. */
const COMES_BACK = 0.9;
const RELEASE_AGAIN = [10_000, 60_000, 600_000];

/** Between two releases of which an eviction of mounted versions is not the reason, in milliseconds. */
const RELEASE_PAUSE = 60_000;

export function createCapacity(options: CapacityOptions): Capacity {
  const { cache, index, partialBytes = () => 0, release, isIdle, onWarning = () => {}, interval = INTERVAL } = options;
  const { othersInterval = OTHERS_INTERVAL } = options;
  const { directory } = cache.layout;
  const room = openRoom(options.room);
  const kept = new Map<Digest, number>();
  const book: VersionBook = {
    ...options.book,
    inUse: (version) => kept.has(version) || options.book.inUse(version),
  };
  let limits = options.limits ?? {};
  let resolved: ResolvedLimits | undefined;
  let disk: DiskSpace = { total: 0, free: 0, inodes: 0, freeInodes: 0 };
  let others = { bytes: 0, at: Number.NEGATIVE_INFINITY, took: 0 };
  let held = 0;
  let closed = false;
  let refreshing: Promise<void> | undefined;
  let measuring: Promise<void> | undefined;
  let evicting: Promise<unknown> = Promise.resolve();
  let underway = 0;
  /** Files that are being made. */
  let makings = 0;
  let progress: EvictionProgress = newProgress();
  let progressOf = '';
  /** Nothing could go when the versions were these. */
  let barren: { readonly versions: string; readonly at: number } | undefined;
  /** Since mounts were last made to let go, somebody was sent away to stream a file. */
  let turnedAway = false;
  let releasedAt = Number.NEGATIVE_INFINITY;
  const later = new Set<NodeJS.Timeout>();
  const working = new Set<Promise<void>>();
  const totals = { evictedObjects: 0, evictedBytes: 0 };

  cache.onPlaced((placed) => {
    // In the same turn in which the index counts them.
    for (const { taken } of placed) if (taken) room.settle(taken);
  });

  async function diskSpace(): Promise<DiskSpace> {
    const { blocks, bavail, bsize, files, ffree } = await statfs(directory);
    return { total: blocks * bsize, free: bavail * bsize, inodes: files, freeInodes: ffree };
  }

  async function measureOthers(): Promise<void> {
    const began = performance.now();
    const bytes = await folderUsage(directory, COUNTED_ELSEWHERE);
    const at = performance.now();
    others = { bytes, at, took: at - began };
  }

  async function look(): Promise<void> {
    const age = performance.now() - others.at;
    if (age > Math.max(othersInterval, others.took * OTHERS_SHARE)) {
      measuring ??= measureOthers().finally(() => {
        measuring = undefined;
      });
      // The first time it must be known; later, what was known will do.
      if (age === Number.POSITIVE_INFINITY) await measuring;
      else measuring.catch(warn);
    }
    const now = await diskSpace();
    if (closed) return;
    if (makings === 0 && isIdle?.()) room.forgetPending();
    const before = room.bytes;
    const { pending } = room;
    const first = resolved === undefined;
    disk = now;
    resolved = resolveLimits(limits, disk.total);
    const placed = index.totals().held + partialBytes() + others.bytes;
    held = placed + pending;
    const after = roomFor({ held: placed, pending }, disk, resolved);
    // By the difference: what was taken in between stays taken.
    if (first) room.set(after);
    else room.change(after - before);
  }

  function refresh(): Promise<void> {
    refreshing ??= look().finally(() => {
      refreshing = undefined;
    });
    return refreshing;
  }

  function warn(error: unknown): void {
    if (!closed) onWarning(`the cache ${directory} could not be measured: ${(error as Error).message}`);
  }

  /** What may go depends on this. */
  function versionsNow(): string {
    const lines = book.all().map((one) => {
      const stays = one.pinned || book.inUse(one.version);
      return `${one.version} ${one.lastStaged} ${stays}`;
    });
    return lines.join('\n');
  }

  function isBarren(): boolean {
    if (!barren) return false;
    if (performance.now() - barren.at < BARREN_FOR && barren.versions === versionsNow()) return true;
    barren = undefined;
    return false;
  }

  /** One eviction at a time. */
  function enqueue<T>(task: () => Promise<T>): Promise<T> {
    underway += 1;
    const done = evicting.then(task).finally(() => {
      underway -= 1;
    });
    evicting = done.catch(() => {});
    return done;
  }

  async function run(request: EvictRequest, onProgress: () => void = () => {}): Promise<EvictionResult> {
    const before = (await diskSpace()).free;
    const { pending } = room;
    const { held: objectsBefore } = index.totals();
    const ordinary = request.only === undefined && request.mounted !== true;
    const versions = versionsNow();
    if (ordinary && progressOf !== versions) {
      progress = { ...newProgress(), unknown: progress.unknown, unknownSwept: progress.unknownSwept };
    }
    let looked = performance.now();
    let forgotten = 0;
    const done = await evict({
      ...request,
      cache,
      index,
      book,
      progress: ordinary ? progress : newProgress(),
      // What goes although it is mounted is wanted: its record stays.
      onEmptied: async (known) => {
        if (request.mounted) return;
        forgotten += 1;
        await book.forget(known);
      },
      onRemoved: () => {
        if (performance.now() - looked > 100) {
          looked = performance.now();
          refresh().then(onProgress, warn);
        }
        return !closed;
      },
    });
    if (ordinary) {
      const now = versionsNow();
      // Where something came into use or went out of it meanwhile, the walks have passed what may go now.
      progressOf = now === versions || forgotten > 0 ? now : '';
      barren = done.exhausted && now === versions ? { versions, at: performance.now() } : undefined;
    }
    if (done.objects === 0) return { objects: 0, bytes: 0, freed: 0 };
    totals.evictedObjects += done.objects;
    totals.evictedBytes += done.bytes;
    publish('evicted', { cache: directory, objects: done.objects, bytes: done.bytes });
    await refresh();
    onProgress();
    // What was written meanwhile has not been kept back by anybody.
    const written = () => index.totals().held - objectsBefore + done.held + room.pending - pending;
    const back = async () => (closed ? done.held : (await diskSpace()).free - before + Math.max(0, written()));
    const cameBack = comeBack(done, request.mounted === true, back);
    // Whoever waits for room has it already.
    if (ordinary) track(cameBack);
    else await cameBack;
    return { objects: done.objects, bytes: done.bytes, freed: (await diskSpace()).free - before };
  }

  function track(work: Promise<void>): void {
    const done = work.catch(warn).finally(() => working.delete(done));
    working.add(done);
  }

  /** Sees to it that the disk has back what was removed, as far as can be. */
  async function comeBack({ held: removed }: Evicted, mounted: boolean, back: () => Promise<number>): Promise<void> {
    const isBack = async () => {
      // Some file systems free behind the caller's back.
      for (let tries = 0; tries < 5; tries += 1) {
        if ((await back()) >= removed * COMES_BACK) return true;
        await sleep(20);
      }
      return false;
    };
    if (!release || closed) return;
    if (!mounted && (performance.now() - releasedAt < RELEASE_PAUSE || (await isBack()))) return;
    releasedAt = performance.now();
    await release();
    if ((await isBack()) || closed) return;
    // Files that are open now are kept by their mounts again when they are closed.
    for (const pause of RELEASE_AGAIN) {
      const timer = setTimeout(() => {
        later.delete(timer);
        release().then(refresh).catch(warn);
      }, pause);
      later.add(timer.unref());
    }
  }

  /** Begins to evict where there is little room. */
  function tidy(): void {
    if (closed || underway > 0 || !resolved) return;
    if (room.bytes >= resolved.low) welcomeBack();
    else if (!isBarren()) {
      const { high } = resolved;
      enqueue(() => run({ bytes: high - room.bytes })).catch(warn);
    }
  }

  /** A path that was streamed stays so while its mount remembers it: with room for all, those who were sent away come back. */
  function welcomeBack(): void {
    if (!turnedAway || !release || performance.now() - releasedAt < RELEASE_PAUSE) return;
    turnedAway = false;
    releasedAt = performance.now();
    track(release().then(() => {}));
  }

  /** Where nothing but the disk limits it, the disk tells the room. */
  async function lookAtDisk(): Promise<void> {
    disk = await diskSpace();
    if (closed || resolved !== undefined) return;
    resolved = resolveLimits(limits, disk.total);
    room.set(roomFor({ held: 0, pending: room.pending }, disk, resolved));
  }

  const refreshAndTidy = () => {
    refresh().then(tidy).catch(warn);
  };
  let timer: NodeJS.Timeout | undefined;
  const ready = limits.limit === undefined ? lookAtDisk() : refresh();
  Promise.all([ready, options.after]).then(() => {
    if (closed) return;
    timer = setInterval(refreshAndTidy, interval).unref();
    refreshAndTidy();
  }, warn);

  async function makeRoom(bytes: number): Promise<boolean> {
    const made = await tryRoom(bytes);
    if (!made) turnedAway = true;
    return made;
  }

  async function tryRoom(bytes: number): Promise<boolean> {
    if (closed) return false;
    if (room.bytes >= bytes && room.bytes > 0 && resolved) return true;
    await refresh();
    const enough = () => room.bytes >= bytes && room.bytes > 0;
    if (enough()) return true;
    if (isBarren() || !resolved || bytes > (resolved.limit ?? disk.total)) return false;
    const there = Promise.withResolvers<void>();
    const progressed = () => {
      if (enough()) there.resolve();
    };
    enqueue(async () => {
      const { high } = resolved!;
      // Who waited before may have been given enough for all.
      if (!enough() && !isBarren()) await run({ bytes: Math.max(high, bytes) - room.bytes }, progressed);
      there.resolve();
    }).catch((error) => {
      warn(error);
      there.resolve();
    });
    const late = new AbortController();
    await Promise.race([there.promise, sleep(PATIENCE, undefined, { signal: late.signal }).catch(() => {})]);
    late.abort();
    return enough();
  }

  /** Looks at the other folders, from now on. */
  async function measureAgain(): Promise<void> {
    await measuring?.catch(() => {});
    measuring ??= measureOthers().finally(() => {
      measuring = undefined;
    });
    await measuring;
  }

  async function making<T>(what: string, bytes: number, make: () => Promise<T>): Promise<T> {
    const mustHave = async (evictable: number) => {
      const { free } = await diskSpace();
      if (free + evictable >= bytes) return;
      throw new DiskFullError(
        `the disk of ${directory} has ${free} bytes free, and ${what} takes about ${bytes}: free some, or give the cache another disk`,
        { facts: { directory, free, bytes } },
      );
    };
    await mustHave(index.totals().held);
    // What was known of the disk may be a second old.
    await refresh();
    if (!(await tryRoom(bytes)) && !closed) await enqueue(() => run({ bytes, mounted: true }));
    await mustHave(0);
    makings += 1;
    room.seize(bytes);
    let made = false;
    try {
      const result = await make();
      made = true;
      // Until it is counted with the other folders, it counts as what is being written.
      await measureAgain().catch(warn);
      return result;
    } finally {
      makings -= 1;
      if (made) room.settle(bytes);
      else room.give(bytes);
    }
  }

  const capacity: Capacity = {
    ready,
    makeRoom,
    making,
    evict: (request) => enqueue(() => run(request)),
    plan: (request) => planEviction({ ...request, index, book }),
    keep: (version) => {
      kept.set(version, (kept.get(version) ?? 0) + 1);
      return {
        [Symbol.dispose]: () => {
          const left = kept.get(version)! - 1;
          if (left > 0) kept.set(version, left);
          else kept.delete(version);
        },
      };
    },
    get limits() {
      return limits;
    },
    setLimits: async (next) => {
      limits = next;
      await refresh();
      // One that began before the limits were set may have been under way.
      await refresh();
      tidy();
    },
    refresh,
    stats: () => {
      const { limit, minFree = 0 } = resolved ?? {};
      return {
        ...(limit !== undefined && { limit }),
        minFree,
        diskBytes: disk.total,
        diskFree: disk.free,
        held,
        room: resolved ? room.bytes : 0,
        evicting: underway > 0,
        ...totals,
      };
    },
    close: async () => {
      if (closed) return;
      closed = true;
      clearInterval(timer);
      await evicting;
      await Promise.all(working);
      for (const one of later) clearTimeout(one);
      await refreshing?.catch(() => {});
      await measuring?.catch(() => {});
    },
    [Symbol.asyncDispose]: () => capacity.close(),
  };
  return capacity;
}
