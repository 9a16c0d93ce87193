import type { ChunkIndex } from '../chunk-index.ts';
import type { Digest } from '../digest.ts';
import { CorruptError } from '../errors.ts';
import type { ChunkLocation } from '../format/locations.ts';
import { packKey } from '../keys.ts';
import { readLocations } from '../location.ts';
import type { BaseLeaf, ManifestSink, NewLeaf } from '../manifest.ts';
import { PackBuilder } from '../pack-builder.ts';
import type { Repository } from '../repository.ts';
import { storeLocations } from '../store-locations.ts';
import { Turns } from '../turns.ts';
import { ChunkFilter } from './chunk-filter.ts';
import type { StoredChunk } from './read-changes.ts';
import { type Held, SLAB_CHUNK, Slab } from './slab.ts';

/** Locations of this run that are remembered; older ones are asked of the index. */
const REMEMBERED = 8_192;

/** Chunks of one pack: of tiny ones, a whole pack's worth would be too many to keep track of in memory. */
const PACKED_TOGETHER = 8_192;

/** Chunks that may be stored before it is asked what others stored, where this machine's index is known to be of use. */
const UNASKED = 256;
const UNASKED_BYTES = 16 << 20;

/** Leaves whose locations are read or written at once. */
const LOCATED_AT_ONCE = 32;

/** What a run stored. */
export interface StoredTotals {
  /** Chunks that were new, and their bytes before compression. */
  chunks: number;
  bytes: number;
  /** Packs written, and their bytes. */
  packs: number;
  packBytes: number;
}

/**
 * Stores each chunk once: packs those that are new, and writes each new leaf's locations as soon as the packs are durable in which its
 * chunks lie.
 */
export class ChunkStore implements ManifestSink {
  readonly #repository: Repository;
  readonly #index: ChunkIndex;
  readonly #isIndexKept: boolean;
  readonly #signal: AbortSignal | undefined;
  readonly #builder: PackBuilder;
  /** Chunks of packs that are not durable yet. */
  readonly #unlocated = new Map<Digest, Held>();
  /** Chunks of packs that became durable lately. */
  readonly #located = new Map<Digest, ChunkLocation>();
  readonly #written = new Set<Digest>();
  /** Whether packs of earlier runs are there. */
  readonly #present = new Map<Digest, boolean>();
  readonly #turns = new Turns(LOCATED_AT_ONCE);
  #slab = Slab.create();
  #together = 0;
  /** All that the index has, where it was empty when this run began: then new chunks are not looked for in it. */
  #filter: ChunkFilter | undefined;
  #next = Promise.withResolvers<void>();
  #refreshed = false;
  #relearned: Promise<void> | undefined;
  #chunks = 0;
  #bytes = 0;

  /**
   * @param isIndexKept whether the index is known to have most of what is stored: then a small change is stored without looking
   * through the repository for more
   */
  constructor(repository: Repository, index: ChunkIndex, isIndexKept: boolean, signal?: AbortSignal) {
    this.#isIndexKept = isIndexKept;
    this.#repository = repository;
    this.#index = index;
    this.#signal = signal;
    this.#builder = new PackBuilder(repository, {
      signal,
      onPack: (pack, locations) => this.#durable(pack, locations),
    });
  }

  get totals(): StoredTotals {
    const { packs, bytes } = this.#builder;
    return { chunks: this.#chunks, bytes: this.#bytes, packs, packBytes: bytes };
  }

  /** Takes a chunk. Where it gives a promise, wait for it before the next. */
  store(chunk: StoredChunk): Promise<void> | undefined {
    const { id } = chunk;
    if (this.#unlocated.has(id) || this.#located.has(id)) return undefined;
    if (this.#mustRefresh()) return this.#refresh().then(() => this.store(chunk));
    const known = this.#find(id);
    if (known === undefined) return this.#add(chunk);
    // A pack may have been collected since the index learned of it: then the chunk is stored again.
    const present = this.#isPresent(known.pack);
    if (present === true) return undefined;
    if (present === false) return this.#add(chunk);
    return present.then((there) => (there ? undefined : this.#add(chunk)));
  }

  /** Writes what there is; all of it is durable afterwards, and all leaves can be located. */
  async flush(): Promise<void> {
    await this.#builder.flush();
    this.#forgetGone();
  }

  async leaf({ digest, chunks, from }: NewLeaf): Promise<void> {
    if (chunks.length === 0) return;
    // What the base tells is read while packs fill. Whatever fails first ends the run.
    const kept = this.#turns.run(() => this.#keptLocations(from));
    kept.catch(() => undefined);
    while (chunks.some(({ id }) => this.#unlocated.has(id))) await this.#next.promise;
    const elsewhere = await kept;
    await this.#turns.run(async () => {
      const locations: ChunkLocation[] = [];
      for (const { id } of chunks)
        locations.push(this.#located.get(id) ?? elsewhere.get(id) ?? (await this.#indexed(id, digest)));
      const isPresent = (pack: Digest) => this.#isPresent(pack);
      await storeLocations(this.#repository, { digest, chunks }, locations, isPresent, this.#signal);
    });
    // Its new chunks are in the index already.
    this.#index.insertSegment(digest, []);
  }

  #mustRefresh(): boolean {
    if (this.#refreshed) return false;
    return !this.#isIndexKept || this.#chunks >= UNASKED || this.#bytes >= UNASKED_BYTES;
  }

  /** Learns what others stored. What cannot be read is only stored again. */
  async #refresh(): Promise<void> {
    await this.#index.refresh(this.#repository, { signal: this.#signal });
    this.#refreshed = true;
    if (!this.#isIndexKept && this.#index.size === 0) this.#filter = new ChunkFilter();
  }

  /** Where a chunk lies that this run has not just stored. */
  #find(id: Digest): ChunkLocation | undefined {
    if (this.#filter?.mayHave(id) === false) return undefined;
    return this.#index.find(id);
  }

  #add({ id, length, codec, bytes, whole, block }: StoredChunk): Promise<void> {
    let kept = bytes;
    let held: Held;
    if (block) {
      block.hold();
      held = block;
    } else {
      const own = Buffer.isBuffer(bytes) ? bytes : Buffer.concat(bytes);
      kept = own;
      if (own.length > SLAB_CHUNK) held = Slab.around(own);
      else {
        let copy = this.#slab.copy(own);
        if (copy === undefined) {
          this.#slab = Slab.create();
          copy = this.#slab.copy(own)!;
        }
        kept = copy;
        held = this.#slab;
      }
    }
    this.#unlocated.set(id, held);
    this.#chunks++;
    this.#bytes += length;
    const added = this.#builder.add({ id, length, codec, bytes: kept, wholeFile: whole });
    if (++this.#together < PACKED_TOGETHER) return added;
    this.#together = 0;
    return added.then(() => {
      // Begins to write what there is. A failure comes out of the next chunk, or of `flush`.
      this.#builder.flush().catch(() => undefined);
    });
  }

  #durable(pack: Digest, locations: readonly ChunkLocation[]): void {
    this.#written.add(pack);
    this.#index.insert(locations);
    for (const location of locations) {
      const { id } = location;
      this.#located.set(id, location);
      this.#unlocated.get(id)?.release();
      this.#unlocated.delete(id);
      this.#filter?.add(id);
    }
    for (const oldest of this.#located.keys()) {
      if (this.#located.size <= REMEMBERED) break;
      this.#located.delete(oldest);
    }
    const { resolve } = this.#next;
    this.#next = Promise.withResolvers();
    resolve();
  }

  /** What the leaves that unchanged entries come from tell of their chunks. */
  async #keptLocations(from: readonly BaseLeaf[]): Promise<ReadonlyMap<Digest, ChunkLocation>> {
    const signal = this.#signal;
    const all = await Promise.all(
      from.map(({ digest, chunks }) => readLocations(this.#repository, digest, { chunks, signal })),
    );
    return all.length === 1 ? all[0]! : new Map(all.flatMap((each) => [...each]));
  }

  async #indexed(id: Digest, leaf: Digest): Promise<ChunkLocation> {
    const location = this.#index.find(id);
    if (location !== undefined && (await this.#isPresent(location.pack))) return location;
    // It may have been moved by a repack: all locations tell where to.
    this.#relearned ??= this.#relearn();
    await this.#relearned;
    const moved = this.#index.find(id);
    if (moved !== undefined && (await this.#isPresent(moved.pack))) return moved;
    throw new CorruptError(
      `chunk ${id} of segment ${leaf} is stored nowhere in ${this.#repository.location}; 'larder verify' tells what is missing`,
      { facts: { chunk: id, segment: leaf } },
    );
  }

  async #relearn(): Promise<void> {
    this.#forgetGone();
    this.#index.forgetSegments();
    await this.#index.refresh(this.#repository, { signal: this.#signal });
  }

  #forgetGone(): void {
    const gone = [...this.#present]
      .filter(([pack, isThere]) => !isThere && !this.#written.has(pack))
      .map(([pack]) => pack);
    if (gone.length > 0) this.#index.forgetPacks(gone);
  }

  /** Whether a pack is there that the index tells of: it is kept on this machine, and the pack may be gone since. */
  #isPresent(pack: Digest): boolean | Promise<boolean> {
    if (this.#written.has(pack)) return true;
    const known = this.#present.get(pack);
    if (known !== undefined) return known;
    return this.#repository.bucket.head(packKey(pack), this.#signal).then((info) => {
      this.#present.set(pack, info !== undefined);
      return info !== undefined;
    });
  }
}
