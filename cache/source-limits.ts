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

/**
 * The longest patience of those that want the object.
 * @param sources may be gone through twice
 */
export function patienceFor(id: Digest, sources: () => Iterable<Limited>, own: number): number {
  if (!some(sources(), ({ limits }) => limits !== undefined && limits.patience(own) !== own)) return own;
  let longest: number | undefined;
  for (const { map, limits } of sources()) {
    if (map.has(id)) longest = Math.max(longest ?? 0, limits?.patience(own) ?? own);
  }
  return longest ?? own;
}

/**
 * The widest rate of those that want the object; undefined where one of them has none.
 * @param sources may be gone through twice
 */
export function rateFor(id: Digest, sources: () => Iterable<Limited>): Rate | undefined {
  if (!some(sources(), ({ limits }) => limits?.rate !== undefined)) return undefined;
  let widest: Rate | undefined;
  for (const { map, limits } of sources()) {
    if (!map.has(id)) continue;
    const rate = limits?.rate;
    if (rate === undefined) return undefined;
    if (widest === undefined || rate.bytesPerSecond > widest.bytesPerSecond) widest = rate;
  }
  return widest;
}

/** Mostly nobody says anything, and then no map is asked. */
function some(sources: Iterable<Limited>, is: (source: Limited) => boolean): boolean {
  for (const source of sources) if (is(source)) return true;
  return false;
}
