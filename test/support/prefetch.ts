import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sha256 } from '../../dataset/digest.ts';
import { createRandom } from './random.ts';

const FOLDERS = ['train', 'test'];

/** What to prefetch, and which of a source's folders that are. */
export const PREFETCHES = [
  { what: 'none', folders: [] },
  { what: 'train/**', folders: ['train'] },
  { what: 'all', folders: FOLDERS },
] as const satisfies readonly { what: string; folders: readonly string[] }[];

/** Files that no other seed has, below `train/` and `test/`. @returns their digests, by folder */
export function prefetchSource(directory: string, seed: number): ReadonlyMap<string, readonly string[]> {
  const random = createRandom(seed);
  const make = (folder: string) => {
    mkdirSync(join(directory, folder), { recursive: true });
    return Array.from({ length: 20 }, (_, at) => {
      const bytes = random.bytes(5_000);
      writeFileSync(join(directory, folder, `${at}`), bytes);
      return sha256(bytes);
    });
  };
  return new Map(FOLDERS.map((folder) => [folder, make(folder)]));
}

/** Which of the digests are objects of a cache; each is read, and is what its name says. */
export function cachedOf(cache: string, digests: readonly string[]): string[] {
  const path = (digest: string) => join(cache, 'objects', digest.slice(0, 2), digest);
  const there = digests.filter((digest) => existsSync(path(digest)));
  const wrong = there.filter((digest) => sha256(readFileSync(path(digest))) !== digest);
  if (wrong.length > 0) throw new Error(`wrong objects in ${cache}: ${wrong.join(', ')}`);
  return there;
}

/** Waits until all of the digests are objects of a cache. */
export async function untilCached(cache: string, digests: readonly string[]): Promise<void> {
  while (cachedOf(cache, digests).length < digests.length) await sleep(20);
}

/** All objects of a cache. */
export function objectsOf(cache: string): string[] {
  return readdirSync(join(cache, 'objects'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => name);
}
