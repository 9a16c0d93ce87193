import { readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import type { Digest } from '../dataset/digest.ts';
import { isErrno } from '../dataset/errors.ts';
import type { Cache } from './cache.ts';

/** So much of it is kept, the latest. */
const MOST_OBJECTS = 100;
const MOST_BYTES = 2 ** 30;

/**
 * Takes an object out of a cache, and keeps it for a look at it; of many, the latest hundred, and a gibibyte.
 * @returns false where it was gone already
 */
export function quarantine(cache: Cache, id: Digest): boolean {
  const { quarantine: folder } = cache.layout;
  try {
    renameSync(cache.objectPath(id), `${folder}/${id}`);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
  cache.remove(id);
  const kept = readdirSync(folder)
    .map((name) => ({ file: `${folder}/${name}`, facts: statSync(`${folder}/${name}`) }))
    // A rename changes nothing but this time.
    .sort((a, b) => b.facts.ctimeMs - a.facts.ctimeMs);
  let bytes = 0;
  for (const [at, { file, facts }] of kept.entries()) {
    bytes += facts.blocks * 512;
    if (at >= MOST_OBJECTS || bytes > MOST_BYTES) rmSync(file, { force: true });
  }
  return true;
}
