import type { Digest } from '../../dataset/digest.ts';
import type { ChunkLocation } from '../../dataset/location.ts';

/** From this part on, a pack's bytes that are wanted and missing are had by reading all of it. */
const DENSE = 0.25;

/** So many of a segment's chunks are looked at: each look asks the file system. */
const LOOKS = 48;

/**
 * Whether a whole pack is to be read for what a segment has in it: from what the segment's locations say, and from a look at whether a
 * few of its chunks, evenly spread, are in the cache. Chunks of the pack between the segment's own that the segment does not know
 * count as not wanted.
 * @param isMissing of a chunk that is a whole file
 */
export function isDense(
  pack: Digest,
  locations: Iterable<ChunkLocation>,
  isMissing: (chunk: Digest) => boolean,
): boolean {
  const inPack = [...locations].filter((location) => location.pack === pack);
  if (inPack.length === 0) return false;
  let start = Number.POSITIVE_INFINITY;
  let end = 0;
  let stored = 0;
  for (const location of inPack) {
    start = Math.min(start, location.offset);
    end = Math.max(end, location.offset + location.stored);
    stored += location.stored;
  }
  const step = Math.max(1, inPack.length / LOOKS);
  let looked = 0;
  let missing = 0;
  for (let at = 0; at < inPack.length; at += step) {
    const location = inPack[Math.floor(at)]!;
    looked += location.stored;
    if (isMissing(location.id)) missing += location.stored;
  }
  return (missing / looked) * (stored / (end - start)) >= DENSE;
}
