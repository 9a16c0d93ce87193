import { readObject } from './bucket/read-object.ts';
import type { Digest } from './digest.ts';
import { ConflictError, CorruptError, NotFoundError } from './errors.ts';
import { type ChunkLocation, decodeLocations, encodeLocations, LOCATIONS_LIMIT } from './format/locations.ts';
import { locationsKey } from './keys.ts';
import type { ChunkRef } from './manifest.ts';
import type { Repository } from './repository.ts';

export interface LeafToLocate {
  readonly digest: Digest;
  /** Each once, in order of first appearance. */
  readonly chunks: readonly ChunkRef[];
}

/**
 * Stores where a leaf's chunks lie, before the leaf is stored. Nearly always there are no locations yet: then it is one request. Where there are, they stay as long as
 * they are sound and their packs are there: others may need the leaf, and the packs that this writer found may be about to be collected, which is
 * found out only later (collect/guard.ts).
 * @param locations those of the chunks, in their order; for none, nothing is stored
 * @param isPresent whether a pack is there
 */
export async function storeLocations(
  repository: Repository,
  leaf: LeafToLocate,
  locations: readonly ChunkLocation[],
  isPresent: (pack: Digest) => boolean | Promise<boolean>,
  signal?: AbortSignal,
): Promise<void> {
  if (locations.length === 0) return;
  const object = encodeLocations(leaf.digest, locations);
  for (;;)
    try {
      await repository.bucket.put(locationsKey(leaf.digest), object, { condition: 'absent', signal });
      return;
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
      if (await mend(repository, leaf, object, isPresent, signal)) return;
    }
}

/** @returns false where they went meanwhile */
async function mend(
  { bucket }: Repository,
  leaf: LeafToLocate,
  object: Buffer,
  isPresent: (pack: Digest) => boolean | Promise<boolean>,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const key = locationsKey(leaf.digest);
  try {
    const { bytes, etag } = await readObject(bucket, key, LOCATIONS_LIMIT, { signal });
    if (bytes.equals(object) || (await isGood(leaf, bytes, isPresent))) return true;
    await bucket.put(key, object, { condition: { etag }, signal });
    return true;
  } catch (error) {
    if (error instanceof NotFoundError) return false;
    // Somebody else mended them first.
    if (error instanceof ConflictError) return true;
    throw error;
  }
}

async function isGood(
  { digest, chunks }: LeafToLocate,
  object: Buffer,
  isPresent: (pack: Digest) => boolean | Promise<boolean>,
): Promise<boolean> {
  try {
    const packs = new Set(decodeLocations(digest, object, chunks).map(({ pack }) => pack));
    const present = await Promise.all([...packs].map((pack) => isPresent(pack)));
    return present.every((isThere) => isThere);
  } catch (error) {
    if (error instanceof CorruptError) return false;
    throw error;
  }
}
