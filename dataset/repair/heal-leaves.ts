import { type ChunkIndex, openChunkIndex } from '../chunk-index.ts';
import { type Digest, sha256 } from '../digest.ts';
import type { Entry } from '../entry.ts';
import { CorruptError, NotFoundError } from '../errors.ts';
import type { ChunkLocation } from '../format/locations.ts';
import { locationsIn } from '../format/pack.ts';
import { compressChunk } from '../import/compress.ts';
import { writeLocations } from '../location.ts';
import { mapAhead } from '../map-ahead.ts';
import { PackBuilder, readChunk, readPackIndex } from '../pack.ts';
import type { Repository } from '../repository.ts';
import type { PackList } from '../verify/pack-list.ts';
import type { PackFaults } from '../verify/read-packs.ts';
import type { BrokenLeaf } from '../verify/structure.ts';
import type { ChunkSource, WantedChunk } from './chunk-source.ts';

/** Leaves that are healed together: what is fetched for them is packed together. */
const TOGETHER = 64;
const INDEXES_AHEAD = 16;

export interface HealedTotals {
  /** Chunks that were found in another place of the repository, and those that were fetched from elsewhere. */
  found: number;
  fetched: number;
  /** Whole chunks that were taken out of damaged packs. */
  saved: number;
  /** Bytes of those that were stored again, as chunks. */
  bytes: number;
  locations: number;
}

/**
 * Gives broken leaves new locations: of chunks that lie elsewhere in the repository, or are stored again from whoever has them. Chunks of damaged
 * packs are all moved, so that nothing needs those any more.
 */
export class LeafHealer {
  readonly totals: HealedTotals = { found: 0, fetched: 0, saved: 0, bytes: 0, locations: 0 };
  readonly #repository: Repository;
  readonly #packs: PackList;
  readonly #faults: PackFaults;
  readonly #sources: readonly ChunkSource[];
  /** Of this machine: it learns the new places. */
  readonly #index: ChunkIndex;
  /** Of all chunks that lie in sound packs, for this repair only. */
  readonly #places: ChunkIndex;
  readonly #onChunk: (() => void) | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #builder: PackBuilder;
  readonly #written = new Set<Digest>();
  /** Chunks whose place in a pack that was not read back turned out to be damaged. */
  readonly #unsound = new Set<Digest>();
  #scanned = false;
  #batch: BrokenLeaf[] = [];

  /** @param options.scratch a directory for what must be remembered of all packs */
  constructor(options: {
    readonly repository: Repository;
    readonly packs: PackList;
    readonly faults: PackFaults;
    readonly sources: readonly ChunkSource[];
    readonly index: ChunkIndex;
    readonly scratch: string;
    readonly onChunk?: () => void;
    readonly signal?: AbortSignal;
  }) {
    this.#repository = options.repository;
    this.#packs = options.packs;
    this.#faults = options.faults;
    this.#sources = options.sources;
    this.#index = options.index;
    this.#places = openChunkIndex(options.repository, { directory: options.scratch });
    this.#onChunk = options.onChunk;
    this.#signal = options.signal;
    this.#builder = new PackBuilder(options.repository, {
      signal: options.signal,
      onPack: (pack, locations) => {
        this.#written.add(pack);
        for (const { id } of locations) this.#unsound.delete(id);
        this.#index.insert(locations);
        this.#places.insert(locations);
      },
    });
  }

  /** Packs that were stored: one that holds the very chunks of a damaged one, in their order, has taken its place. */
  get written(): ReadonlySet<Digest> {
    return this.#written;
  }

  close(): void {
    this.#places.close();
  }

  async add(leaf: BrokenLeaf): Promise<void> {
    this.#batch.push(leaf);
    if (this.#batch.length >= TOGETHER) await this.flush();
  }

  async flush(): Promise<void> {
    const batch = this.#batch;
    this.#batch = [];
    if (batch.length === 0) return;
    await this.#scan();
    const tried = new Set<Digest>();
    for (const leaf of batch)
      for (const { id, length } of leaf.chunks) {
        const now = leaf.locations?.get(id);
        if (this.#isSound(leaf, now) || tried.has(id)) continue;
        tried.add(id);
        this.#signal?.throwIfAborted();
        if ((await this.#place(id)) !== undefined) this.totals.found += 1;
        else await this.#store({ id, length, leaf, places: placesOf(leaf.entries, id) }, now);
        this.#onChunk?.();
      }
    await this.#builder.flush();
    for (const leaf of batch) await this.#relocate(leaf);
  }

  #isSound(leaf: BrokenLeaf, location: ChunkLocation | undefined): location is ChunkLocation {
    return location !== undefined && !leaf.lost.has(location.id) && !this.#isDamaged(location.pack);
  }

  #isDamaged(pack: Digest): boolean {
    return this.#faults.packs.has(pack) || this.#faults.chunks.has(pack);
  }

  /** Another place of a chunk in the repository, which is whole there. */
  async #place(id: Digest): Promise<ChunkLocation | undefined> {
    const place = this.#unsound.has(id) ? undefined : this.#places.find(id);
    if (place === undefined || this.#faults.wasRead(place.pack) || this.#written.has(place.pack)) return place;
    if ((await this.#readSound(place)) !== undefined) return place;
    this.#unsound.add(id);
    return undefined;
  }

  /** Stores a chunk again: from the damaged pack that it lies in, if it is whole there, or from elsewhere. */
  async #store(wanted: WantedChunk, now: ChunkLocation | undefined): Promise<void> {
    const kept = now && (await this.#readSound(now));
    const bytes = kept ?? (await this.#fetch(wanted));
    if (bytes === undefined) return;
    if (kept === undefined) this.totals.fetched += 1;
    else this.totals.saved += 1;
    this.totals.bytes += bytes.length;
    const { id, length } = wanted;
    const target = Buffer.allocUnsafeSlow(length);
    const packed = compressChunk(target, bytes);
    const wholeFile = wanted.places.some(({ content }) => content === id);
    await this.#builder.add(
      packed > 0
        ? { id, length, codec: 'zstd', bytes: target.subarray(0, packed), wholeFile }
        : { id, length, codec: 'raw', bytes, wholeFile },
    );
  }

  async #readSound(location: ChunkLocation): Promise<Buffer | undefined> {
    try {
      return await readChunk(this.#repository, location, this.#signal);
    } catch (error) {
      if (error instanceof CorruptError || error instanceof NotFoundError) return undefined;
      throw error;
    }
  }

  async #fetch(wanted: WantedChunk): Promise<Buffer | undefined> {
    for (const source of this.#sources) {
      const bytes = await source.chunk(wanted, this.#signal);
      if (bytes?.length === wanted.length && sha256(bytes) === wanted.id) return bytes;
    }
    return undefined;
  }

  /** Chunks that were found nowhere keep their place, where that can be told: the others are readable again. */
  async #relocate(leaf: BrokenLeaf): Promise<void> {
    const locations: ChunkLocation[] = [];
    let isBetter = false;
    for (const { id } of leaf.chunks) {
      const now = leaf.locations?.get(id);
      const place = this.#isSound(leaf, now) ? now : ((await this.#place(id)) ?? now);
      if (place === undefined) return;
      isBetter ||= place !== now;
      locations.push(place);
    }
    if (!isBetter) return;
    await writeLocations(this.#repository, leaf.digest, locations);
    this.totals.locations += 1;
  }

  /** Learns what lies where in packs that are sound: what they say of themselves, and what reading them back has found. */
  async #scan(): Promise<void> {
    if (this.#scanned) return;
    this.#scanned = true;
    const read = mapAhead(this.#packs, INDEXES_AHEAD, async (pack) => {
      this.#signal?.throwIfAborted();
      if (this.#isDamaged(pack)) return [];
      try {
        return locationsIn(pack, await readPackIndex(this.#repository, pack, this.#signal));
      } catch (error) {
        if (error instanceof CorruptError || error instanceof NotFoundError) return [];
        throw error;
      }
    });
    for await (const locations of read) this.#places.insert(locations);
    this.#places.flush();
  }
}

function placesOf(entries: readonly Entry[], chunk: Digest): WantedChunk['places'] {
  const places: { content: Digest; offset: number }[] = [];
  for (const entry of entries) {
    if (entry.type !== 'file') continue;
    const { content } = entry;
    if (content.kind === 'chunk' && content.id === chunk) places.push({ content: content.id, offset: 0 });
    if (content.kind !== 'chunks') continue;
    let offset = 0;
    for (const part of content.parts) {
      if (part.chunk === chunk) places.push({ content: content.id, offset });
      offset += part.length;
    }
  }
  return places;
}
