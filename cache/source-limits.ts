import type { Digest } from '../dataset/digest.ts';
import type { Rate } from './rate.ts';
import type { StageMap } from './stage-map.ts';

/** What a staged version is allowed, as long as it is staged; it is asked anew each time, for it may change. */
export interface SourceLimits {
  /**
   * How long to try for an object, in milliseconds.
   * @param own where nobody says otherwise
   */
  patience(own: number): number;
  /** How fast it is fetched; undefined for as fast as it comes. */
  readonly rate: Rate | undefined;
}

interface Limited {
  readonly map: Pick<StageMap, 'has'>;
  readonly limits?: SourceLimits | undefined;
}

/** The longest patience of those that want the object. */
export function patienceFor(id: Digest, sources: Iterable<Limited>, own: number): number {
  let longest: number | undefined;
  let isOwn = true;
  const known: Limited[] = [];
  for (const source of sources) {
    known.push(source);
    if (source.limits !== undefined && source.limits.patience(own) !== own) isOwn = false;
  }
  // Mostly nobody says anything, and then no map is asked.
  if (isOwn) return own;
  for (const { map, limits } of known) {
    if (map.has(id)) longest = Math.max(longest ?? 0, limits?.patience(own) ?? own);
  }
  return longest ?? own;
}

/** The widest rate of those that want the object; undefined where one of them has none. */
export function rateFor(id: Digest, sources: Iterable<Limited>): Rate | undefined {
  const known = [...sources];
  if (!known.some(({ limits }) => limits?.rate !== undefined)) return undefined;
  let widest: Rate | undefined;
  for (const { map, limits } of known) {
    if (!map.has(id)) continue;
    const rate = limits?.rate;
    if (rate === undefined) return undefined;
    if (widest === undefined || rate.bytesPerSecond > widest.bytesPerSecond) widest = rate;
  }
  return widest;
}
