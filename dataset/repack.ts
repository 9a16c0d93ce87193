import { readObject } from './bucket/read-object.ts';
import { restoreChunk } from './chunk-codec.ts';
import type { Marker } from './collect/mark.ts';
import { DIGEST_BYTES, type Digest, digestFromBytes } from './digest.ts';
import { ConflictError, CorruptError, NotFoundError } from './errors.ts';
import { type ChunkLocation, encodeLocations, LOCATIONS_LIMIT, readPlaces } from './format/locations.ts';
import type { PackIndexEntry } from './format/pack.ts';
import { locationsKey, packKey } from './keys.ts';
import { mapAhead } from './map-ahead.ts';
import { PackBuilder, readPackIndex } from './pack.ts';
import type { Repository } from './repository.ts';

/** A pack of which little is needed. */
export interface ThinPack {
  readonly id: Digest;
  /** The object's bytes, and those of its chunks that are needed. */
  readonly size: number;
  readonly live: number;
}

export interface Repacked {
  readonly packs: number;
  readonly bytes: number;
  /** Of these, what is needed, and is stored again. */
  readonly liveBytes: number;
  /** Whether it was done, or only looked at. */
  readonly done: boolean;
}

/** Bytes and chunks that are moved before the leaves that need them are told: what bounds memory. */
const ROUND_BYTES = 512 << 20;
const ROUND_CHUNKS = 200_000;
/** Neighbouring chunks are read together, with gaps of at most so many bytes, and at most so many together. */
const GAP = 64 << 10;
const READ = 16 << 20;
const LEAVES_AHEAD = 16;
/** How often locations are tried that others change meanwhile. */
const TRIES = 5;

interface Round {
  readonly packs: ThinPack[];
  /** By `pack/offset`: the chunk there. */
  readonly from: Map<string, Digest>;
  readonly to: Map<Digest, ChunkLocation>;
  readonly leaves: Set<Digest>;
  bytes: number;
}

/**
 * Writes what is needed of some packs to new ones, and changes the locations that named the old. No version changes, and the old packs stay: whoever read
 * the old locations reads on. A pack with a chunk that cannot be read is left as it is.
 * @param marker has noted places and users
 * @param thin in order of their ids
 * @returns the packs that no locations name any more, of the leaves that were marked
 */
export async function repackPacks(
  repository: Repository,
  marker: Marker,
  thin: readonly ThinPack[],
  signal?: AbortSignal,
): Promise<Digest[]> {
  const placesOf = recordsOf(marker.places!.read());
  const usersOf = recordsOf(marker.users!.read());
  const emptied: Digest[] = [];
  let round = newRound();
  let builder = builderOf(repository, round, signal);
  const finish = async () => {
    await builder.flush();
    emptied.push(...(await tellLeaves(repository, round, signal)));
    round = newRound();
    builder = builderOf(repository, round, signal);
  };
  for (const pack of thin) {
    signal?.throwIfAborted();
    const offsets = new Set(placesOf(pack.id).map((place) => place.readUIntBE(DIGEST_BYTES, 6)));
    const users = usersOf(pack.id).map((user) => digestFromBytes(user, DIGEST_BYTES));
    if (!(await moveChunks(repository, pack, offsets, round, builder, signal))) continue;
    round.packs.push(pack);
    for (const leaf of users) round.leaves.add(leaf);
    if (round.bytes >= ROUND_BYTES || round.from.size >= ROUND_CHUNKS) await finish();
  }
  await finish();
  return emptied;
}

function newRound(): Round {
  return { packs: [], from: new Map(), to: new Map(), leaves: new Set(), bytes: 0 };
}

function builderOf(repository: Repository, round: Round, signal: AbortSignal | undefined): PackBuilder {
  return new PackBuilder(repository, {
    signal,
    onPack: (_pack, locations) => {
      for (const location of locations) round.to.set(location.id, location);
    },
  });
}

/** @returns false where the pack cannot be read whole: what was taken of it is only stored twice */
async function moveChunks(
  repository: Repository,
  pack: ThinPack,
  offsets: ReadonlySet<number>,
  round: Round,
  builder: PackBuilder,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const taken: [string, Digest][] = [];
  const adding = new Set<Digest>();
  try {
    const entries = (await readPackIndex(repository, pack.id, signal)).filter(({ offset }) => offsets.has(offset));
    if (entries.length < offsets.size) return false;
    const known = new Set(round.from.values());
    for (const run of runsOf(entries)) {
      const start = run[0]!.offset;
      const bytes = await readRange(
        repository,
        pack.id,
        start,
        run.at(-1)!.offset + run.at(-1)!.stored - start,
        signal,
      );
      for (const entry of run) {
        const stored = Buffer.from(bytes.subarray(entry.offset - start, entry.offset - start + entry.stored));
        await restoreChunk(pack.id, entry, stored);
        taken.push([`${pack.id}/${entry.offset}`, entry.id]);
        if (known.has(entry.id) || adding.has(entry.id)) continue;
        adding.add(entry.id);
        const { id, length, codec, wholeFile } = entry;
        await builder.add({ id, length, codec, bytes: stored, wholeFile });
        round.bytes += entry.stored;
      }
    }
  } catch (error) {
    if (error instanceof CorruptError || error instanceof NotFoundError) return false;
    throw error;
  }
  for (const [place, id] of taken) round.from.set(place, id);
  return true;
}

function* runsOf(entries: readonly PackIndexEntry[]): Generator<PackIndexEntry[]> {
  let run: PackIndexEntry[] = [];
  for (const entry of entries) {
    const last = run.at(-1);
    const isFar =
      last !== undefined &&
      (entry.offset - last.offset - last.stored > GAP || entry.offset + entry.stored - run[0]!.offset > READ);
    if (isFar) {
      yield run;
      run = [];
    }
    run.push(entry);
  }
  if (run.length > 0) yield run;
}

async function readRange(
  repository: Repository,
  pack: Digest,
  offset: number,
  length: number,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  return (await readObject(repository.bucket, packKey(pack), length, { range: { offset, length }, signal })).bytes;
}

/** Changes the locations of all leaves of a round. @returns its packs that none of them names any more */
async function tellLeaves(repository: Repository, round: Round, signal: AbortSignal | undefined): Promise<Digest[]> {
  const packs = new Set(round.packs.map(({ id }) => id));
  const still = new Set<Digest>();
  const told = mapAhead(round.leaves, LEAVES_AHEAD, (leaf) => tellLeaf(repository, leaf, round, packs, signal));
  for await (const named of told) for (const pack of named) still.add(pack);
  return round.packs.map(({ id }) => id).filter((id) => !still.has(id));
}

/** @returns the packs of the round that the leaf's locations name all the same */
async function tellLeaf(
  repository: Repository,
  leaf: Digest,
  round: Round,
  packs: ReadonlySet<Digest>,
  signal: AbortSignal | undefined,
): Promise<readonly Digest[]> {
  const { bucket } = repository;
  const key = locationsKey(leaf);
  for (let left = TRIES; ; left--) {
    try {
      const { bytes, etag } = await readObject(bucket, key, LOCATIONS_LIMIT, { signal });
      const places = readPlaces(leaf, bytes);
      const locations = places.rows.map(({ pack: number, offset, stored, codec }): ChunkLocation => {
        const pack = places.packs[number]!;
        const chunk = round.from.get(`${pack}/${offset}`);
        const to = chunk && round.to.get(chunk);
        return to ?? { id: leaf, pack, offset, stored, codec, length: stored };
      });
      const named = new Set(locations.map(({ pack }) => pack).filter((pack) => packs.has(pack)));
      if (named.size < places.packs.filter((pack) => packs.has(pack)).length)
        await bucket.put(key, encodeLocations(leaf, locations), { condition: { etag }, signal });
      return [...named];
    } catch (error) {
      if (error instanceof NotFoundError) return [];
      if (!(error instanceof ConflictError)) throw error;
      if (left === 0) return [...packs];
    }
  }
}

/** Gives the records that begin with a digest; to be asked in order of the digests. */
function recordsOf(sorted: Iterable<Buffer>): (digest: Digest) => Buffer[] {
  const records = sorted[Symbol.iterator]();
  let next = records.next();
  return (digest) => {
    const wanted = Buffer.from(digest, 'hex');
    const found: Buffer[] = [];
    for (; !next.done; next = records.next()) {
      const order = next.value.compare(wanted, 0, DIGEST_BYTES, 0, DIGEST_BYTES);
      if (order > 0) break;
      if (order === 0) found.push(Buffer.from(next.value));
    }
    return found;
  };
}
