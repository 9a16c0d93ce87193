import type { ByteString } from '../byte-string.ts';
import type { Digest } from '../digest.ts';
import type { Entry, FileEntry } from '../entry.ts';
import { CorruptError, NotFoundError } from '../errors.ts';
import { type ChunkRef, chunksOf } from '../format/chunk-list.ts';
import type { SegmentRef } from '../format/index-node.ts';
import type { ChunkLocation } from '../format/locations.ts';
import { locationsKey, packKey, segmentKey, versionKey } from '../keys.ts';
import { readLocations } from '../location.ts';
import { readChild } from '../manifest/segments.ts';
import { readSegment } from '../manifest.ts';
import { mapAhead } from '../map-ahead.ts';
import { type NewLeaf, newLeaves } from '../new-leaves.ts';
import { type PackIndexEntry, readPackIndex } from '../pack.ts';
import type { Repository } from '../repository.ts';
import { readShallow } from '../shallow.ts';
import { verifySourcesOf } from '../source/verify-sources.ts';
import { readVersion, type Version } from '../version.ts';
import { type Damage, DamageList, faultOf } from './damage.ts';
import type { PackList } from './pack-list.ts';
import type { PackFaults } from './read-packs.ts';
import { type Place, rootsOf } from './roots.ts';

/** A leaf some of whose chunks cannot be read where they are said to lie, or lie in a pack with others that cannot. */
export interface BrokenLeaf {
  readonly digest: Digest;
  readonly entries: readonly Entry[];
  readonly chunks: readonly ChunkRef[];
  /** Where its chunks are said to lie; undefined where that cannot be read. */
  readonly locations: ReadonlyMap<Digest, ChunkLocation> | undefined;
  readonly lost: ReadonlySet<Digest>;
}

export interface StructureOptions {
  readonly packs: PackList;
  /** What reading packs back has found; nothing where they were not read. */
  readonly faults: PackFaults;
  /** `NAME[@REF]`; all names, if not said. */
  readonly names?: readonly string[];
  /** Ask for each object in place whether it is the same. */
  readonly sources?: boolean;
  readonly onEntries?: (count: number) => void;
  /** Told of each pack that a leaf names, several times. */
  readonly onPack?: (pack: Digest) => void;
  readonly onBroken?: (leaf: BrokenLeaf) => Promise<void>;
  readonly signal?: AbortSignal;
}

/** Leaves, with their locations, read at once. */
const LEAVES_AHEAD = 32;
/** Leaves that are compared with their packs together: a pack's index is read once for all of them. */
const WINDOW = 128;
/** Indexes of packs that are read at once, and those that are kept. */
const INDEXES_AHEAD = 16;
const KEPT_INDEXES = 16;

interface Leaf {
  readonly digest: Digest;
  readonly entries: readonly Entry[];
  readonly chunks: readonly ChunkRef[];
  readonly locations: ReadonlyMap<Digest, ChunkLocation>;
  readonly place: Place;
}

interface Lost {
  readonly object: string;
  readonly kind: Damage['kind'];
  readonly fault: string;
}

type Index = ReadonlyMap<Digest, PackIndexEntry> | string;

/**
 * Checks that all is there that names lead to, that it is well-formed, and that chunks lie where their locations say. Of each version only what
 * differs from its parent is read, since the parent is checked too: memory grows with neither, only with the number of versions and packs.
 */
export async function checkStructure(repository: Repository, options: StructureOptions): Promise<DamageList> {
  const check = new StructureCheck(repository, options);
  await check.run();
  return check.damage;
}

class StructureCheck {
  readonly damage = new DamageList();
  readonly #repository: Repository;
  readonly #options: StructureOptions;
  readonly #indexes = new Map<Digest, Promise<Index>>();
  #window: Leaf[] = [];

  constructor(repository: Repository, options: StructureOptions) {
    this.#repository = repository;
    this.#options = options;
  }

  async run(): Promise<void> {
    const { names, signal } = this.#options;
    const shallow = await readShallow(this.#repository, signal);
    const met = new Set<Digest>();
    for await (const root of rootsOf(this.#repository, this.damage, { names, signal })) {
      const queue = [{ place: root, follows: undefined as Digest | undefined }];
      for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
        const { place, follows } = next;
        if (met.has(place.version)) continue;
        signal?.throwIfAborted();
        const version = await this.#readVersion(place, follows !== undefined && shallow.has(follows));
        if (version === undefined) continue;
        met.add(place.version);
        for (const parent of version.parents) queue.push({ place: { ...place, version: parent }, follows: version.id });
        await this.#checkManifest(version, place);
      }
    }
    await this.#checkWindow();
  }

  /** @param mayLack it is a parent that may have been left out */
  async #readVersion(place: Place, mayLack: boolean): Promise<Version | undefined> {
    try {
      return await readVersion(this.#repository, place.version, this.#options.signal);
    } catch (error) {
      if (mayLack && error instanceof NotFoundError) return undefined;
      const key = versionKey(place.version);
      if (this.damage.has(key)) return undefined;
      this.damage.noteError(key, error, [{ ...place, path: undefined }], 1);
      return undefined;
    }
  }

  async #checkManifest(version: Version, place: Place): Promise<void> {
    const { signal } = this.#options;
    const repository = this.#repository;
    const base = await this.#baseOf(version);
    const leaves = newLeaves(
      { repository, root: version.root },
      {
        base: base && { repository, root: base.root },
        onDamage: (digest, ref, error) => {
          // What it held is known by its borders only.
          const affected = ref === undefined ? [undefined] : bordersOf(ref);
          const at = affected.map((path) => ({ ...place, path }));
          this.damage.noteError(segmentKey(digest), error, at, ref?.entries ?? 1);
        },
        signal,
      },
    );
    const checked = mapAhead(leaves, LEAVES_AHEAD, (leaf) => this.#readLeaf(leaf, place));
    for await (const leaf of checked) {
      if (leaf === undefined) continue;
      if ('lost' in leaf) {
        await this.#options.onBroken?.(leaf);
        continue;
      }
      this.#window.push(leaf);
      if (this.#window.length >= WINDOW) await this.#checkWindow();
    }
  }

  /** A parent that is checked too, and whose segments need not be looked at again therefore. */
  async #baseOf({ parents }: Version): Promise<Version | undefined> {
    for (const id of parents)
      try {
        return await readVersion(this.#repository, id, this.#options.signal);
      } catch (error) {
        if (!(error instanceof NotFoundError || error instanceof CorruptError)) throw error;
      }
    return undefined;
  }

  /** Undefined where there is nothing to compare with packs. */
  async #readLeaf({ digest, ref }: NewLeaf, place: Place): Promise<Leaf | BrokenLeaf | undefined> {
    const { signal, sources, onEntries } = this.#options;
    let entries: readonly Entry[];
    try {
      const read =
        ref === undefined ? readSegment(this.#repository, digest, signal) : readChild(this.#repository, ref, 0, signal);
      entries = (await read) as readonly Entry[];
    } catch (error) {
      const affected = ref === undefined ? [undefined] : bordersOf(ref);
      this.damage.noteError(
        segmentKey(digest),
        error,
        affected.map((path) => ({ ...place, path })),
        ref?.entries ?? 1,
      );
      return undefined;
    }
    onEntries?.(entries.length);
    if (sources) await this.#checkSources(entries, place);
    const chunks = chunksOf(entries);
    if (chunks.length === 0) return undefined;
    try {
      const locations = await readLocations(this.#repository, digest, { chunks, signal });
      return { digest, entries, chunks, locations, place };
    } catch (error) {
      const files = entries.filter((entry) => chunkIdsOf(entry).length > 0);
      const affected = files.map(({ path }) => ({ ...place, path }));
      this.damage.noteError(locationsKey(digest), error, affected, files.length);
      return { digest, entries, chunks, locations: undefined, lost: new Set(chunks.map(({ id }) => id)) };
    }
  }

  async #checkSources(entries: readonly Entry[], place: Place): Promise<void> {
    for await (const { bucket, key, fault, path } of verifySourcesOf(this.#repository, entries, this.#options.signal)) {
      const said = {
        changed: 'it has changed',
        missing: 'it is missing',
        unknown: 'nothing tells where its bucket is',
      };
      const kind = fault === 'missing' ? 'missing' : 'damaged';
      this.damage.note(`source ${bucket}/${key}`, kind, said[fault], [{ ...place, path }], 1);
    }
  }

  /** Compares the locations of some leaves with the indexes of their packs. */
  async #checkWindow(): Promise<void> {
    const leaves = this.#window;
    this.#window = [];
    const byPack = new Map<Digest, { leaf: Leaf; location: ChunkLocation }[]>();
    for (const leaf of leaves)
      for (const location of leaf.locations.values()) {
        const list = byPack.get(location.pack);
        if (list) list.push({ leaf, location });
        else byPack.set(location.pack, [{ leaf, location }]);
      }
    const lost = new Map<Leaf, Set<Digest>>();
    const read = mapAhead(byPack, INDEXES_AHEAD, async ([pack, places]) => {
      return { pack, places, index: await this.#indexOf(pack) };
    });
    for await (const { pack, places, index } of read) {
      this.#options.onPack?.(pack);
      const found = new Map<string, Map<Leaf, { damage: Lost; chunks: Set<Digest> }>>();
      for (const { leaf, location } of places) {
        const damage = this.#damageOf(index, leaf, location);
        if (damage === undefined) continue;
        const leaves = found.get(damage.object) ?? new Map<Leaf, { damage: Lost; chunks: Set<Digest> }>();
        found.set(damage.object, leaves);
        const known = leaves.get(leaf);
        if (known) known.chunks.add(location.id);
        else leaves.set(leaf, { damage, chunks: new Set([location.id]) });
      }
      for (const [object, leaves] of found)
        for (const [leaf, { damage, chunks }] of leaves) {
          const files = leaf.entries.filter((entry) => chunkIdsOf(entry).some((id) => chunks.has(id)));
          const affected = files.map(({ path }) => ({ ...leaf.place, path }));
          this.damage.note(object, damage.kind, damage.fault, affected, files.length);
          const all = lost.get(leaf) ?? new Set<Digest>();
          lost.set(leaf, all);
          for (const id of chunks) all.add(id);
        }
    }
    const { onBroken, faults } = this.#options;
    if (onBroken === undefined) return;
    for (const leaf of leaves) {
      const { digest, entries, chunks, locations } = leaf;
      const gone = lost.get(leaf);
      const isBeside = [...locations.values()].some(({ pack }) => faults.chunks.has(pack));
      if (gone || isBeside) await onBroken({ digest, entries, chunks, locations, lost: gone ?? new Set() });
    }
  }

  #damageOf(index: Index, leaf: Leaf, location: ChunkLocation): Lost | undefined {
    const { pack, id } = location;
    const object = packKey(pack);
    if (typeof index === 'string')
      return { object, kind: this.#options.packs.has(pack) ? 'damaged' : 'missing', fault: index };
    const fault = this.#options.faults.chunks.get(pack)?.get(id);
    if (fault !== undefined) return { object, kind: 'damaged', fault: `chunk ${id}: ${fault}` };
    const entry = index.get(id);
    const same =
      entry !== undefined &&
      (['offset', 'stored', 'length', 'codec'] as const).every((field) => entry[field] === location[field]);
    if (same) return undefined;
    const what = entry === undefined ? 'does not have it' : 'has it elsewhere';
    return {
      object: locationsKey(leaf.digest),
      kind: 'damaged',
      fault: `it tells that chunk ${id} lies in pack ${pack}, which ${what}`,
    };
  }

  /** What a pack has, by chunk; or what is wrong with it. */
  #indexOf(pack: Digest): Promise<Index> {
    let index = this.#indexes.get(pack);
    if (index === undefined) {
      index = this.#readIndex(pack);
      this.#indexes.set(pack, index);
      if (this.#indexes.size > KEPT_INDEXES)
        for (const oldest of this.#indexes.keys()) if (this.#indexes.delete(oldest)) break;
    }
    return index;
  }

  async #readIndex(pack: Digest): Promise<Index> {
    if (!this.#options.packs.has(pack)) return 'it is missing';
    try {
      const entries = await readPackIndex(this.#repository, pack, this.#options.signal);
      return new Map(entries.map((entry) => [entry.id, entry]));
    } catch (error) {
      if (error instanceof NotFoundError) return 'it is missing';
      if (error instanceof CorruptError) return faultOf(error);
      throw error;
    }
  }
}

function chunkIdsOf(entry: Entry): readonly Digest[] {
  if (entry.type !== 'file') return [];
  const { content } = entry as FileEntry;
  if (content.kind === 'chunk') return [content.id];
  if (content.kind === 'chunks') return content.parts.flatMap(({ chunk }) => (chunk === undefined ? [] : [chunk]));
  return [];
}

function bordersOf({ first, last }: SegmentRef): ByteString[] {
  return first === last ? [first] : [first, last];
}
