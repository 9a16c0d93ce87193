import { readObject } from '../bucket/read-object.ts';
import type { Digest } from '../digest.ts';
import type { Entry } from '../entry.ts';
import { CorruptError, NotFoundError } from '../errors.ts';
import { chunksOf } from '../format/chunk-list.ts';
import type { ChunkLocation } from '../format/locations.ts';
import { decodeSegment, SEGMENT_LIMIT } from '../format/segment.ts';
import { segmentKey } from '../keys.ts';
import { readLocations } from '../location.ts';
import { checkChild, damaged } from '../manifest/segments.ts';
import { isIndex } from '../manifest.ts';
import { mapAhead } from '../map-ahead.ts';
import { type Manifest, type NewLeaf, newLeaves } from '../new-leaves.ts';
import type { Repository } from '../repository.ts';
import { type CarriedLeaf, type ChunkCarrier, putIfAbsent } from './chunk-carrier.ts';
import type { SourceCarrier } from './source-carrier.ts';

export interface CarryManifestOptions {
  readonly from: Repository;
  readonly to: Repository;
  readonly root: Digest;
  /** A manifest that the target has whole. */
  readonly base?: Manifest;
  readonly carrier: ChunkCarrier;
  readonly sources: SourceCarrier;
  readonly signal?: AbortSignal;
}

/** Leaves that are looked for in the target, and read, while the one before is carried. */
const LEAVES_AHEAD = 16;

/**
 * Brings a manifest with all that it names into the target. A leaf comes after its chunks and their locations, so one that is there is passed
 * over; an index segment comes after all below it.
 */
export async function carryManifest(options: CarryManifestOptions): Promise<void> {
  const { from, to, root, base, carrier, sources, signal } = options;
  /** Parents before their children. */
  const indexes: Digest[] = [];
  const leaves = newLeaves({ repository: from, root }, { base, onIndex: (digest) => indexes.push(digest), signal });
  const read = mapAhead(leaves, LEAVES_AHEAD, (leaf) => readLeaf(options, leaf));
  for await (const leaf of read) {
    if (leaf === undefined) continue;
    await sources.carry(leaf.entries);
    await carrier.leaf(leaf);
  }
  await carrier.flush();
  for (const digest of indexes.reverse()) {
    const object = await readRaw(from, digest, signal);
    decodeSegment(digest, object);
    if (await putIfAbsent(to, segmentKey(digest), object, signal)) carrier.totals.segments += 1;
  }
}

/** A leaf with all that must be known to carry it; undefined where the target has it. */
async function readLeaf(
  { from, to, signal }: CarryManifestOptions,
  { digest, ref, base }: NewLeaf,
): Promise<(CarriedLeaf & { readonly entries: readonly Entry[] }) | undefined> {
  signal?.throwIfAborted();
  if ((await to.bucket.head(segmentKey(digest), signal)) !== undefined) return undefined;
  const object = await readRaw(from, digest, signal);
  const segment = decodeSegment(digest, object);
  if (isIndex(segment)) throw damaged(digest, `it is an index of level ${segment.level} where a leaf is expected`);
  if (ref !== undefined) checkChild(ref, 0, segment);
  const chunks = chunksOf(segment);
  const wholeFiles = new Set<Digest>();
  for (const entry of segment)
    if (entry.type === 'file' && entry.content.kind === 'chunk') wholeFiles.add(entry.content.id);
  return {
    digest,
    object,
    entries: segment,
    chunks,
    wholeFiles,
    from: chunks.length === 0 ? new Map() : await readLocations(from, digest, { chunks, signal }),
    kept: chunks.length === 0 ? new Map() : await keptLocations(to, base, signal),
  };
}

/** Where the chunks of the target's leaves lie; what is damaged there is only sent again. */
async function keptLocations(
  to: Repository,
  base: readonly Digest[],
  signal: AbortSignal | undefined,
): Promise<ReadonlyMap<Digest, ChunkLocation>> {
  const found = new Map<Digest, ChunkLocation>();
  for (const leaf of base)
    try {
      for (const [id, location] of await readLocations(to, leaf, { signal })) found.set(id, location);
    } catch (error) {
      if (!(error instanceof CorruptError)) throw error;
    }
  return found;
}

async function readRaw(
  { bucket, location }: Repository,
  digest: Digest,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  try {
    return (await readObject(bucket, segmentKey(digest), SEGMENT_LIMIT + 64, { signal })).bytes;
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    throw new CorruptError(`segment ${digest} is missing from ${location}; 'larder verify' tells what else is`, {
      cause: error,
      facts: { segment: digest, fault: 'missing' },
    });
  }
}
