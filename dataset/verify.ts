import { type ByteString, textOf } from './byte-string.ts';
import type { Digest } from './digest.ts';
import type { Entry, FileEntry } from './entry.ts';
import { CorruptError, NotFoundError } from './errors.ts';
import type { SegmentRef } from './format/index-node.ts';
import { locationsKey, PACKS, packKey, segmentKey, versionKey } from './keys.ts';
import { type ChunkLocation, readLocations } from './location.ts';
import { readChild } from './manifest/segments.ts';
import { isIndex, readAnySegment, type Segment } from './manifest.ts';
import { type PackIndexEntry, readPackIndex } from './pack.ts';
import { listBranches, listDatasets, listTags } from './refs.ts';
import type { Repository } from './repository.ts';
import { Pool } from './threads/pool.ts';
import type { VerifiedPack, VerifyTask } from './verify/worker.ts';
import { readVersion } from './version.ts';

export interface VerifyOptions {
  /** Read every byte of every pack back. */
  readonly deep?: boolean;
  readonly onProgress?: (progress: VerifyProgress) => void;
  readonly signal?: AbortSignal;
}

export interface VerifyProgress {
  readonly phase: string;
  /** Entries checked. */
  readonly files: number;
  /** Bytes of packs read. */
  readonly bytes: number;
  readonly totalBytes?: number;
}

/** An object of the repository that is not as it must be. */
export interface Damage {
  /** Its key. */
  readonly object: string;
  readonly kind: 'missing' | 'damaged';
  /** What is wrong, in words that follow "it": `is missing`, or what its reader said. */
  readonly fault: string;
  /** Entries that it affects, of one version that has each; at most `AFFECTED_LIMIT` of them. */
  readonly affected: readonly Affected[];
  /** How many there are in all, as far as can be told: none for an object that nothing needs. */
  readonly affectedCount: number;
}

export interface Affected {
  readonly dataset: string;
  /** The branch or tag that was followed to the version. */
  readonly ref: string;
  readonly version: Digest;
  /** Undefined where the whole version is affected. */
  readonly path: ByteString | undefined;
}

/** The most entries that are named for one damaged object. */
export const AFFECTED_LIMIT = 20;

/** Leaves that are checked together: a pack's index is read once for all of them. */
const LEAVES = 64;
/** Indexes of packs that are kept. */
const KEPT_INDEXES = 4;

/**
 * Checks all that branches and tags lead to: versions, segments, locations, and that every chunk's pack is there, has its length, and has the
 * chunk where the locations say. With `deep`, every chunk of every pack is read and its digest checked. Gives what is damaged or missing;
 * nothing where all is well.
 */
export async function* verifyRepository(repository: Repository, options: VerifyOptions = {}): AsyncGenerator<Damage> {
  const verifier = new Verifier(repository, options);
  yield* verifier.run();
}

/** Where the verifier is: for naming what a damaged object affects. */
interface Place {
  readonly dataset: string;
  readonly ref: string;
  readonly version: Digest;
}

interface Leaf {
  readonly digest: Digest;
  readonly entries: readonly Entry[];
  readonly locations: ReadonlyMap<Digest, ChunkLocation>;
  readonly place: Place;
}

interface FoundDamage {
  readonly kind: Damage['kind'];
  readonly fault: string;
  readonly affected: Affected[];
  affectedCount: number;
}

class Verifier {
  readonly #repository: Repository;
  readonly #options: VerifyOptions;
  /** Sizes of the packs that are there, in bytes. */
  readonly #packs = new Map<Digest, number>();
  /** What reading found: by pack, the faults of its chunks. */
  readonly #badChunks = new Map<Digest, ReadonlyMap<Digest, string>>();
  readonly #found = new Map<string, FoundDamage>();
  readonly #checked = new Set<Digest>();
  readonly #indexes = new Map<Digest, ReadonlyMap<Digest, PackIndexEntry> | string>();
  #window: Leaf[] = [];
  #files = 0;
  #bytes = 0;
  #totalBytes = 0;

  constructor(repository: Repository, options: VerifyOptions) {
    this.#repository = repository;
    this.#options = options;
  }

  async *run(): AsyncGenerator<Damage> {
    const { signal, deep } = this.#options;
    for await (const { key, size } of this.#repository.bucket.list(PACKS, { signal })) {
      this.#packs.set(key.slice(key.lastIndexOf('/') + 1) as Digest, size);
      this.#totalBytes += size;
    }
    if (deep) await this.#readPacks();
    const versions = new Set<Digest>();
    for (const dataset of await listDatasets(this.#repository)) {
      const refs = [...(await listBranches(this.#repository, dataset)), ...(await listTags(this.#repository, dataset))];
      for (const { name, version } of refs) {
        const queue = [version];
        for (let id = queue.pop(); id !== undefined; id = queue.pop()) {
          if (versions.has(id)) continue;
          versions.add(id);
          queue.push(...(await this.#checkVersion({ dataset, ref: name, version: id })));
        }
      }
    }
    await this.#checkWindow();
    for (const [object, damage] of this.#found) yield { object, ...damage };
  }

  #report(phase: string): void {
    const { onProgress, deep } = this.#options;
    onProgress?.({ phase, files: this.#files, bytes: this.#bytes, ...(deep && { totalBytes: this.#totalBytes }) });
  }

  /** Reads every pack that is there, also those that nothing needs: what is damaged there is found before it is needed. */
  async #readPacks(): Promise<void> {
    await using pool = new Pool<VerifyTask, VerifiedPack>({
      module: new URL('./verify/worker.ts', import.meta.url),
      data: { repository: this.#repository.location },
    });
    const packs = this.#packs.entries();
    const work = async () => {
      for (const [pack, size] of packs) {
        this.#options.signal?.throwIfAborted();
        const { fault, chunks } = await pool.run({ pack }).result;
        if (fault !== undefined) {
          this.#indexes.delete(pack);
          this.#note(packKey(pack), 'damaged', fault);
        }
        for (const chunk of chunks) this.#note(packKey(pack), 'damaged', `chunk ${chunk.id}: ${chunk.fault}`);
        if (chunks.length > 0) this.#badChunks.set(pack, new Map(chunks.map(({ id, fault }) => [id, fault])));
        this.#bytes += size;
        this.#report('reading packs');
      }
    };
    await Promise.all(Array.from({ length: pool.size * 2 }, work));
  }

  /** @returns the version's parents */
  async #checkVersion(place: Place): Promise<readonly Digest[]> {
    const { signal } = this.#options;
    try {
      const version = await readVersion(this.#repository, place.version, signal);
      await this.#checkRoot(version.root, place);
      return version.parents;
    } catch (error) {
      this.#noteError(versionKey(place.version), error, [{ ...place, path: undefined }], 1);
      return [];
    }
  }

  async #checkRoot(root: Digest, place: Place): Promise<void> {
    if (this.#checked.has(root)) return;
    this.#checked.add(root);
    let segment: Segment;
    try {
      segment = await readAnySegment(this.#repository, root, this.#options.signal);
    } catch (error) {
      this.#noteError(segmentKey(root), error, [{ ...place, path: undefined }], 1);
      return;
    }
    await this.#checkSegment(root, segment, place);
  }

  async #checkSegment(digest: Digest, segment: Segment, place: Place): Promise<void> {
    if (!isIndex(segment)) {
      await this.#checkLeaf(digest, segment, place);
      return;
    }
    for (const child of segment.children) {
      this.#options.signal?.throwIfAborted();
      if (this.#checked.has(child.digest)) continue;
      this.#checked.add(child.digest);
      let below: Segment;
      try {
        below = await readChild(this.#repository, child, segment.level - 1, this.#options.signal);
      } catch (error) {
        // What it held is known by its borders only.
        const affected = bordersOf(child).map((path) => ({ ...place, path }));
        this.#noteError(segmentKey(child.digest), error, affected, child.entries);
        continue;
      }
      await this.#checkSegment(child.digest, below, place);
    }
  }

  async #checkLeaf(digest: Digest, entries: readonly Entry[], place: Place): Promise<void> {
    this.#files += entries.length;
    this.#report('checking');
    try {
      const locations = await readLocations(this.#repository, digest, { entries, signal: this.#options.signal });
      if (locations.size > 0) this.#window.push({ digest, entries, locations, place });
    } catch (error) {
      const files = entries.filter((entry) => chunksOfEntry(entry).length > 0);
      const affected = files.map(({ path }) => ({ ...place, path }));
      this.#noteError(locationsKey(digest), error, affected, files.length);
    }
    if (this.#window.length >= LEAVES) await this.#checkWindow();
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
    for (const [pack, places] of byPack) {
      const index = await this.#indexOf(pack);
      /** By leaf, then by damaged object: the chunks that are lost with it. */
      const lost = new Map<Leaf, Map<string, { kind: Damage['kind']; fault: string; chunks: Set<Digest> }>>();
      for (const { leaf, location } of places) {
        const damage = this.#damageOf(pack, index, leaf, location);
        if (damage === undefined) continue;
        const objects = lost.get(leaf) ?? new Map();
        lost.set(leaf, objects);
        const known = objects.get(damage.object);
        if (known) known.chunks.add(location.id);
        else objects.set(damage.object, { kind: damage.kind, fault: damage.fault, chunks: new Set([location.id]) });
      }
      for (const [leaf, objects] of lost)
        for (const [object, { kind, fault, chunks }] of objects) {
          const files = leaf.entries.filter((entry) => chunksOfEntry(entry).some((id) => chunks.has(id)));
          const affected = files.map(({ path }) => ({ ...leaf.place, path }));
          this.#note(object, kind, fault, affected, files.length);
        }
    }
  }

  #damageOf(
    pack: Digest,
    index: ReadonlyMap<Digest, PackIndexEntry> | string,
    leaf: Leaf,
    location: ChunkLocation,
  ): { object: string; kind: Damage['kind']; fault: string } | undefined {
    const key = packKey(pack);
    if (typeof index === 'string') {
      const kind = this.#packs.has(pack) ? 'damaged' : 'missing';
      return { object: key, kind, fault: index };
    }
    const fault = this.#badChunks.get(pack)?.get(location.id);
    if (fault !== undefined) return { object: key, kind: 'damaged', fault: `chunk ${location.id}: ${fault}` };
    const entry = index.get(location.id);
    const same =
      entry !== undefined &&
      (['offset', 'stored', 'length', 'codec'] as const).every((field) => entry[field] === location[field]);
    if (same) return undefined;
    const what = entry === undefined ? 'does not have it' : 'has it elsewhere';
    return {
      object: locationsKey(leaf.digest),
      kind: 'damaged',
      fault: `it tells that chunk ${location.id} lies in pack ${pack}, which ${what}`,
    };
  }

  /** What a pack has, by chunk; or what is wrong with it. */
  async #indexOf(pack: Digest): Promise<ReadonlyMap<Digest, PackIndexEntry> | string> {
    const kept = this.#indexes.get(pack);
    if (kept !== undefined) return kept;
    let index: ReadonlyMap<Digest, PackIndexEntry> | string;
    if (!this.#packs.has(pack)) index = 'it is missing';
    else
      try {
        const entries = await readPackIndex(this.#repository, pack, this.#options.signal);
        index = new Map(entries.map((entry) => [entry.id, entry]));
      } catch (error) {
        if (error instanceof NotFoundError) index = 'it is missing';
        else if (error instanceof CorruptError) index = faultOf(error);
        else throw error;
      }
    this.#indexes.set(pack, index);
    if (this.#indexes.size > KEPT_INDEXES)
      for (const oldest of this.#indexes.keys()) if (this.#indexes.delete(oldest)) break;
    return index;
  }

  #noteError(object: string, error: unknown, affected: readonly Affected[], count: number): void {
    const cause = error instanceof CorruptError ? error.cause : undefined;
    if (error instanceof NotFoundError || cause instanceof NotFoundError)
      this.#note(object, 'missing', 'it is missing', affected, count);
    else if (error instanceof CorruptError) this.#note(object, 'damaged', faultOf(error), affected, count);
    else throw error;
  }

  #note(object: string, kind: Damage['kind'], fault: string, affected: readonly Affected[] = [], count = 0): void {
    let found = this.#found.get(object);
    if (found === undefined) {
      found = { kind, fault, affected: [], affectedCount: 0 };
      this.#found.set(object, found);
    }
    found.affectedCount += count;
    found.affected.push(...affected.slice(0, AFFECTED_LIMIT - found.affected.length));
  }
}

function chunksOfEntry(entry: Entry): readonly Digest[] {
  if (entry.type !== 'file') return [];
  const { content } = entry as FileEntry;
  if (content.kind === 'chunk') return [content.id];
  if (content.kind === 'chunks') return content.parts.flatMap(({ chunk }) => (chunk === undefined ? [] : [chunk]));
  return [];
}

function bordersOf({ first, last }: SegmentRef): ByteString[] {
  return first === last ? [first] : [first, last];
}

function faultOf(error: CorruptError): string {
  return (error.facts.fault as string | undefined) ?? error.message;
}

/** One line for people: the object, what is wrong with it, and whom it affects. */
export function describeDamage({ object, fault, affected, affectedCount }: Damage): string {
  const [first] = affected;
  if (first === undefined) return `${object}: ${fault}; nothing needs it`;
  const where = first.path === undefined ? 'all of it' : `'${textOf(first.path)}'`;
  const more = affectedCount > 1 ? ` and ${affectedCount - 1} more` : '';
  return `${object}: ${fault}; affects ${where}${more} of ${first.dataset}@${first.ref}`;
}
