import type { ListedObject } from '../bucket/bucket.ts';
import { DIGEST_BYTES, type Digest, isDigest } from '../digest.ts';
import { LOCATIONS, PACKS, SEGMENTS, VERSIONS } from '../keys.ts';
import type { Repository } from '../repository.ts';
import type { Marker } from './mark.ts';
import { PLACE_BYTES } from './mark.ts';
import { follow, type SortedRuns } from './sorted-runs.ts';
import type { Collected } from './state.ts';

const PREFIX: Record<Collected, string> = {
  versions: VERSIONS,
  segments: SEGMENTS,
  locations: LOCATIONS,
  packs: PACKS,
};

/** An object of a repository, by its digest. */
export interface Stored extends ListedObject {
  readonly id: Digest;
  /** Good until the next. */
  readonly digest: Buffer;
}

/** All objects of a kind, in order of their digests. What has no digest for a name is not ours, and is left alone. */
export async function* listStored(
  { bucket }: Repository,
  kind: Collected,
  signal?: AbortSignal,
): AsyncGenerator<Stored> {
  const digest = Buffer.alloc(DIGEST_BYTES);
  for await (const object of bucket.list(PREFIX[kind], { signal })) {
    const id = object.key.slice(object.key.lastIndexOf('/') + 1);
    if (!isDigest(id) || object.key !== `${PREFIX[kind]}${id.slice(0, 2)}/${id}`) continue;
    digest.write(id, 'hex');
    yield { ...object, id, digest };
  }
}

/** Tells of a kind's objects, asked in order, whether they are marked. */
export function markedOf(marker: Marker, kind: Collected): (stored: Pick<Stored, 'id' | 'digest'>) => boolean {
  if (kind === 'versions') return ({ id }) => marker.versions.has(id);
  const runs = { segments: marker.segments, locations: marker.located, packs: marker.packs }[kind];
  const isIn = follow(runs.read());
  return ({ digest }) => isIn(digest);
}

/** Tells of packs, asked in order, how many of their bytes are of chunks that are needed. */
export function liveBytesOf(places: SortedRuns): (pack: Buffer) => number {
  const sums = sumByPack(places.read())[Symbol.iterator]();
  let next = sums.next();
  return (pack) => {
    while (!next.done && next.value.pack.compare(pack) < 0) next = sums.next();
    return !next.done && next.value.pack.equals(pack) ? next.value.bytes : 0;
  };
}

function* sumByPack(places: Iterable<Buffer>): Generator<{ readonly pack: Buffer; readonly bytes: number }> {
  const pack = Buffer.alloc(DIGEST_BYTES);
  let bytes = 0;
  for (const place of places) {
    if (bytes > 0 && place.compare(pack, 0, DIGEST_BYTES, 0, DIGEST_BYTES) !== 0) {
      yield { pack, bytes };
      bytes = 0;
    }
    place.copy(pack, 0, 0, DIGEST_BYTES);
    bytes += place.readUInt32BE(PLACE_BYTES - 4);
  }
  if (bytes > 0) yield { pack, bytes };
}
