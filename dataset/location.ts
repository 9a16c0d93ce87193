import { readObject } from './bucket/read-object.ts';
import type { Digest } from './digest.ts';
import type { Entry } from './entry.ts';
import { CorruptError, NotFoundError } from './errors.ts';
import { type ChunkRef, chunksOf } from './format/chunk-list.ts';
import { type ChunkLocation, decodeLocations, encodeLocations, LOCATIONS_LIMIT } from './format/locations.ts';
import { locationsKey } from './keys.ts';
import { readSegment } from './manifest/segments.ts';
import type { Repository } from './repository.ts';

export type { ChunkCodec, ChunkLocation } from './format/locations.ts';

/** Where each chunk of a leaf segment lies, in order of the chunks' first appearance in it. */
export type SegmentLocations = ReadonlyMap<Digest, ChunkLocation>;

/**
 * @param options.entries the segment's, where the caller has them: then it is not read again
 * @param options.chunks the same, where the caller has only its chunks, each once, in order of first appearance
 * @throws CorruptError where the locations are damaged or missing
 */
export async function readLocations(
  repository: Repository,
  segment: Digest,
  options: {
    readonly entries?: Iterable<Entry>;
    readonly chunks?: readonly ChunkRef[];
    readonly signal?: AbortSignal;
  } = {},
): Promise<SegmentLocations> {
  const { entries, signal } = options;
  const chunks = options.chunks ?? chunksOf(entries ?? (await readSegment(repository, segment, signal)));
  if (chunks.length === 0) return new Map();
  let object: Buffer;
  try {
    object = (await readObject(repository.bucket, locationsKey(segment), LOCATIONS_LIMIT, { signal })).bytes;
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    const name = `locations of segment ${segment}`;
    throw new CorruptError(`${name} are missing from ${repository.location}`, {
      cause: error,
      facts: { object: name, segment, fault: 'missing' },
    });
  }
  return new Map(decodeLocations(segment, object, chunks).map((location) => [location.id, location]));
}

/**
 * Stores where a segment's chunks lie; replaces what was there. The packs must be stored already. A segment without chunks needs
 * no locations, and none are stored.
 * @param locations one for each chunk of the segment, in order of the chunks' first appearance in it
 */
export async function writeLocations(
  repository: Repository,
  segment: Digest,
  locations: readonly ChunkLocation[],
): Promise<void> {
  if (locations.length === 0) return;
  await repository.bucket.put(locationsKey(segment), encodeLocations(segment, locations));
}
