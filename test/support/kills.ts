import type { Bucket } from '../../dataset/bucket/bucket.ts';

/** How often a test kills what it tests: `usual` times, or LARDER_KILL_ROUNDS times as often, for a run by hand that looks longer. */
export function killRounds(usual: number): number {
  const factor = Number(process.env.LARDER_KILL_ROUNDS ?? 1);
  if (!(factor > 0)) throw new RangeError('LARDER_KILL_ROUNDS must be a number above 0');
  return Math.ceil(usual * factor);
}

/**
 * Gives numbers from 0 up to, but not including, 1 for moments to kill at. However few are taken, they lie evenly (multiples of the golden ratio): at
 * random, as many leave out whole stretches. Each run begins elsewhere, and so meets other moments.
 */
export function spreadMoments(begin = Math.random()): () => number {
  let at = begin;
  return () => {
    at = (at + 0.618_033_988_749_894_8) % 1;
    return at;
  };
}

/**
 * Has this process kill itself right before (`7`) or right after (`7+`) its so-manieth object is stored; `0` is never.
 * @returns how many were stored so far
 */
export function dieAtPut(bucket: Bucket, moment: string): () => number {
  const at = Number.parseInt(moment, 10);
  const put = bucket.put.bind(bucket);
  let puts = 0;
  bucket.put = async (...parameters) => {
    puts += 1;
    const isLast = puts === at;
    if (isLast && !moment.endsWith('+')) process.kill(process.pid, 'SIGKILL');
    const etag = await put(...parameters);
    if (isLast) process.kill(process.pid, 'SIGKILL');
    return etag;
  };
  return () => puts;
}
