import { setTimeout as sleep } from 'node:timers/promises';
import { LarderError } from '../dataset/errors.ts';
import type { Cache } from './cache.ts';
import { ObjectChecker } from './check-object.ts';
import type { Healer } from './heal.ts';
import type { CacheIndex, IndexedObject } from './index.ts';
import type { StagedSource } from './segment-reader.ts';

/** Reads the objects of a cache in the background, those first whose last check is longest ago, and finds the damaged ones. */
export interface Scrub extends AsyncDisposable {
  stats(): ScrubStats;
}

export interface ScrubStats {
  /** Since the start. */
  readonly objects: number;
  readonly bytes: number;
  readonly damaged: number;
  /** When the object that is next was checked last, or came, in milliseconds since 1970; undefined where it is not known yet. */
  readonly oldest: number | undefined;
  /** How fast it reads now, in bytes a second. */
  readonly rate: number;
}

/** What is known of the versions whose objects are checked. */
export interface KnownSources {
  readonly sources: readonly StagedSource[];
  /** False where some version could not be asked: what nobody knows may be one of its objects. */
  readonly complete: boolean;
}

export interface ScrubOptions {
  readonly cache: Cache;
  readonly index: CacheIndex;
  readonly healer: Pick<Healer, 'found'>;
  readonly sources: () => Promise<KnownSources>;
  /** In bytes a second; where it is not said, so fast that all is read in about a month. */
  readonly rate?: number;
  /** No object is read again sooner, in milliseconds. */
  readonly again?: number;
  /** How long after the start it begins, in milliseconds. */
  readonly delay?: number;
  /** Called before each round. */
  readonly onRound?: (signal: AbortSignal) => Promise<void>;
  readonly onWarning: (message: string, error?: unknown) => void;
}

const DAY = 86_400_000;
const MONTH_SECONDS = (30 * DAY) / 1000;

/** Where the month would allow less, in bytes a second. */
const SLOWEST = 64 * 1024;

/** What an object costs a disk besides its bytes, in bytes that it could read meanwhile. */
const OBJECT_COST = 4096;

/** Objects asked of the index at a time. */
const BATCH = 64;

/** Between two looks for objects that are due, in milliseconds. */
const LONGEST_REST = 3_600_000;

/** Waits are gathered until they are worth a timer, in seconds. */
const SHORTEST_WAIT = 0.05;

export function startScrub(options: ScrubOptions): Scrub {
  const { cache, index, healer, sources, rate, again = 7 * DAY, delay = 30_000, onRound, onWarning } = options;
  const stopping = new AbortController();
  const { signal } = stopping;
  const checker = new ObjectChecker(cache);
  let objects = 0;
  let bytes = 0;
  let damaged = 0;
  let oldest: number | undefined;
  let owed = 0;

  const currentRate = () => rate ?? Math.max(SLOWEST, index.totals().bytes / MONTH_SECONDS);

  /** Waits as long as so many bytes take. */
  const pace = (count: number): Promise<void> | undefined => {
    owed += count / currentRate();
    if (owed < SHORTEST_WAIT) return undefined;
    const wait = owed;
    owed = 0;
    return sleep(wait * 1000, undefined, { signal, ref: false });
  };

  const checkOne = async ({ id }: IndexedObject, known: KnownSources) => {
    await pace(OBJECT_COST);
    let { complete } = known;
    let checked = await checker.check(id, known.sources, { onRead: pace, signal });
    if (checked?.verdict === 'unknown') {
      // A version that has it may have been staged since the round began.
      const latest = await sources();
      complete = latest.complete;
      checked = await checker.check(id, latest.sources, { onRead: pace, signal });
    }
    if (!checked) return;
    objects += 1;
    bytes += checked.size;
    if (checked.verdict === 'right') {
      index.markVerified(id);
    } else if (checked.verdict === 'damaged') {
      damaged += 1;
      healer.found(id, 'scrub');
    } else if (complete) {
      cache.remove(id);
    }
  };

  /** Everything whose last check was before `until`. */
  const round = async (until: number) => {
    await onRound?.(signal);
    const known = await sources();
    for (let last: IndexedObject | undefined; ; ) {
      const batch = index.byLastCheck({ after: last, limit: BATCH });
      for (const object of batch) {
        const checkedAt = object.verified ?? object.added;
        oldest = checkedAt;
        if (checkedAt >= until) return;
        try {
          await checkOne(object, known);
        } catch (error) {
          signal.throwIfAborted();
          // Its repository cannot tell its parts now: the next round comes to it again, before the others.
          if (!(error instanceof LarderError)) throw error;
          onWarning(`object ${object.id} could not be checked: ${error.message}`, error);
        }
        last = object;
      }
      if (batch.length < BATCH) return;
    }
  };

  const run = async () => {
    await sleep(delay, undefined, { signal, ref: false });
    await index.settled;
    while (!signal.aborted) {
      const started = Date.now();
      try {
        await round(started - again);
      } catch (error) {
        signal.throwIfAborted();
        onWarning(`the background check of cached objects stopped, and begins anew later: ${String(error)}`, error);
      }
      const due = (oldest ?? started) + again - Date.now();
      await sleep(Math.min(LONGEST_REST, Math.max(1000, due)), undefined, { signal, ref: false });
    }
  };
  const running = run().catch((error) => {
    if (!signal.aborted) onWarning(`cached objects are not checked any more: ${String(error)}`, error);
  });

  return {
    stats: () => ({ objects, bytes, damaged, oldest, rate: currentRate() }),
    [Symbol.asyncDispose]: async () => {
      stopping.abort(new Error('the cache is closing'));
      await running;
    },
  };
}
