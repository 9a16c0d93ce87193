import { readObject } from '../bucket/read-object.ts';
import type { Digest } from '../digest.ts';
import { CorruptError, NotFoundError } from '../errors.ts';
import { LOCATIONS_LIMIT, readPlaces } from '../format/locations.ts';
import { locationsKey, packKey, segmentKey } from '../keys.ts';
import { chunksOf, isIndex, readAnySegment, readSegment } from '../manifest.ts';
import { mapAhead } from '../map-ahead.ts';
import type { Repository } from '../repository.ts';

const AHEAD = 32;

/**
 * Looks whether all that a manifest needs is in the repository: its segments, their locations, and the packs that those name. Reads no leaf but
 * one without locations. @returns the key of an object that is missing; undefined where all is there
 */
export async function findMissing(
  repository: Repository,
  root: Digest,
  signal?: AbortSignal,
): Promise<string | undefined> {
  const packs = new Map<Digest, Promise<boolean>>();
  const seen = new Set<Digest>();
  const isThere = async (key: string) => (await repository.bucket.head(key, signal)) !== undefined;

  const missingOfLeaf = async (leaf: Digest): Promise<string | undefined> => {
    if (!(await isThere(segmentKey(leaf)))) return segmentKey(leaf);
    const named = await packsOf(repository, leaf, signal);
    if (named === undefined) return locationsKey(leaf);
    for (const pack of named) {
      let there = packs.get(pack);
      if (there === undefined) {
        there = isThere(packKey(pack));
        packs.set(pack, there);
      }
      if (!(await there)) return packKey(pack);
    }
    return undefined;
  };

  const missingBelow = async (digest: Digest, isLeaf: boolean): Promise<string | undefined> => {
    if (isLeaf) return await missingOfLeaf(digest);
    // What is kept decoded in memory may be gone from the store.
    if (!(await isThere(segmentKey(digest)))) return segmentKey(digest);
    let segment: Awaited<ReturnType<typeof readAnySegment>>;
    try {
      segment = await readAnySegment(repository, digest, signal);
    } catch (error) {
      if (error instanceof CorruptError && error.cause instanceof NotFoundError) return segmentKey(digest);
      throw error;
    }
    if (!isIndex(segment)) return await missingOfLeaf(digest);
    const fresh = segment.children.map((child) => child.digest).filter((child) => !seen.has(child));
    for (const child of fresh) seen.add(child);
    const below = segment.level === 1;
    for await (const missing of mapAhead(fresh, below ? AHEAD : 1, (child) => missingBelow(child, below)))
      if (missing !== undefined) return missing;
    return undefined;
  };
  return await missingBelow(root, false);
}

/** The packs that a leaf's chunks lie in; undefined where its locations are missing and it has chunks. */
export async function packsOf(
  repository: Repository,
  leaf: Digest,
  signal?: AbortSignal,
): Promise<readonly Digest[] | undefined> {
  let object: Buffer;
  try {
    object = (await readObject(repository.bucket, locationsKey(leaf), LOCATIONS_LIMIT, { signal })).bytes;
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    return chunksOf(await readSegment(repository, leaf, signal)).length === 0 ? [] : undefined;
  }
  return readPlaces(leaf, object).packs;
}
