import type { ChunkIndex } from '../chunk-index.ts';
import type { Digest } from '../digest.ts';
import { ConflictError, CorruptError } from '../errors.ts';
import type { ChunkRef } from '../format/chunk-list.ts';
import type { ChunkLocation } from '../format/locations.ts';
import { locationsIn } from '../format/pack.ts';
import { packKey, segmentKey } from '../keys.ts';
import type { SegmentLocations } from '../location.ts';
import { mapAhead } from '../map-ahead.ts';
import { readPackIndex } from '../pack.ts';
import { PackBuilder } from '../pack-builder.ts';
import type { Repository } from '../repository.ts';
import { storeLocations } from '../store-locations.ts';
import { type Run, readRun, readWholePack, runsOf, WHOLE_LIMIT } from './read-stored.ts';

/** A leaf that the target does not have. */
export interface CarriedLeaf {
  readonly digest: Digest;
  /** Its object as it is. */
  readonly object: Uint8Array;
  readonly chunks: readonly ChunkRef[];
  /** Of its chunks, those that are whole files. */
  readonly wholeFiles: ReadonlySet<Digest>;
  /** Where its chunks lie in the source. */
  readonly from: SegmentLocations;
  /** Where some of its chunks lie in the target for certain. */
  readonly kept: ReadonlyMap<Digest, ChunkLocation>;
}

export interface CarriedTotals {
  /** Chunks that the target lacked, and their bytes as they are stored. */
  chunks: number;
  bytes: number;
  /** Packs that were carried as they are, and those that were made anew. */
  wholePacks: number;
  packs: number;
  /** Bytes of those packs. */
  packBytes: number;
  segments: number;
}

/** Chunks that are looked for together, in bytes as stored and in number. */
const WINDOW_BYTES = 128 << 20;
const WINDOW_CHUNKS = 32_768;
/** Packs carried whole at a time: each is held in memory. */
const WHOLE_AT_ONCE = 2;
/** Runs of chunks read ahead of the pack that they are put into. */
const RUNS_AHEAD = 3;
/** Leaves stored at once. */
const LEAVES_AT_ONCE = 16;
/** Leaves that wait for a pack to fill: beyond this, it is written as it is. */
const WAITING_LEAVES = 1024;
/** Chunks sent before it is asked what others stored in the target. */
const UNASKED = 256;
const UNASKED_BYTES = 16 << 20;

interface Waiting {
  readonly leaf: CarriedLeaf;
  readonly places: (ChunkLocation | undefined)[];
  missing: number;
}

interface Wanted {
  /** In the source. */
  readonly location: ChunkLocation;
  readonly wholeFile: boolean;
}

/**
 * Brings leaves into the target, each after the chunks that it names: what the target has is found, of the rest whole packs are carried where
 * most of them is wanted, and single chunks are packed anew, as they are stored. Everything is verified on its way.
 */
export class ChunkCarrier {
  readonly totals: CarriedTotals = { chunks: 0, bytes: 0, wholePacks: 0, packs: 0, packBytes: 0, segments: 0 };
  readonly #from: Repository;
  readonly #to: Repository;
  readonly #index: ChunkIndex;
  readonly #onBytes: (() => void) | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #builder: PackBuilder;
  /** Packs of the target that are there, with those written by this run. */
  readonly #present = new Map<Digest, boolean>();
  /** Leaves whose chunks are under way, by those chunks. */
  readonly #waiters = new Map<Digest, { readonly waiting: Waiting; readonly at: number }[]>();
  #waiting = 0;
  #ready: Waiting[] = [];
  /** What is to be carried next, by pack of the source. */
  #wanted = new Map<Digest, Map<Digest, Wanted>>();
  #wantedBytes = 0;
  #wantedChunks = 0;
  readonly #isIndexKept: boolean;
  #refreshed = false;

  /**
   * @param options.index of the target
   * @param options.isIndexKept whether most of what is wanted is in it, or comes with the leaves: then a small change is carried without looking
   * through the target for more
   */
  constructor(options: {
    readonly from: Repository;
    readonly to: Repository;
    readonly index: ChunkIndex;
    readonly isIndexKept: boolean;
    readonly onBytes?: () => void;
    readonly signal?: AbortSignal;
  }) {
    this.#from = options.from;
    this.#to = options.to;
    this.#index = options.index;
    this.#isIndexKept = options.isIndexKept;
    this.#onBytes = options.onBytes;
    this.#signal = options.signal;
    this.#builder = new PackBuilder(options.to, {
      signal: options.signal,
      onPack: (pack, locations) => {
        this.totals.packs += 1;
        this.#present.set(pack, true);
        this.#located(locations);
      },
    });
  }

  /** The packs of the target that leaves rely on which this run has stored or found. */
  get packs(): Iterable<Digest> {
    return this.#present.keys();
  }

  /** Takes a leaf; it is stored by `flush` at the latest. Wait for it before the next. */
  async leaf(leaf: CarriedLeaf): Promise<void> {
    const waiting: Waiting = { leaf, places: new Array(leaf.chunks.length), missing: 0 };
    for (const [at, { id }] of leaf.chunks.entries()) {
      const others = this.#waiters.get(id);
      if (others !== undefined) {
        others.push({ waiting, at });
        waiting.missing += 1;
        continue;
      }
      const place = leaf.kept.get(id) ?? (await this.#find(id));
      if (place !== undefined) {
        waiting.places[at] = place;
        continue;
      }
      this.#waiters.set(id, [{ waiting, at }]);
      waiting.missing += 1;
      this.#want(leaf, id);
    }
    if (waiting.missing === 0) this.#ready.push(waiting);
    else this.#waiting += 1;
    if (this.#wantedBytes >= WINDOW_BYTES || this.#wantedChunks >= WINDOW_CHUNKS) await this.#carry();
    if (this.#waiting >= WAITING_LEAVES) await this.flush();
    else if (this.#ready.length >= LEAVES_AT_ONCE) await this.#storeReady();
  }

  /** Everything that was taken is in the target afterwards. */
  async flush(): Promise<void> {
    await this.#carry();
    await this.#builder.flush();
    await this.#storeReady();
    this.#index.flush();
  }

  #want(leaf: CarriedLeaf, id: Digest): void {
    const location = leaf.from.get(id);
    if (location === undefined) throw new CorruptError(`segment ${leaf.digest} has no location of chunk ${id}`);
    let pack = this.#wanted.get(location.pack);
    if (pack === undefined) {
      pack = new Map();
      this.#wanted.set(location.pack, pack);
    }
    pack.set(id, { location, wholeFile: leaf.wholeFiles.has(id) });
    this.#wantedBytes += location.stored;
    this.#wantedChunks += 1;
  }

  async #find(id: Digest): Promise<ChunkLocation | undefined> {
    if (this.#mustRefresh()) {
      // What cannot be read there is only sent again.
      await this.#index.refresh(this.#to, { signal: this.#signal });
      this.#refreshed = true;
    }
    const place = this.#index.find(id);
    return place !== undefined && (await this.#isPresent(place.pack)) ? place : undefined;
  }

  #mustRefresh(): boolean {
    if (this.#refreshed) return false;
    const chunks = this.totals.chunks + this.#wantedChunks;
    return !this.#isIndexKept || chunks >= UNASKED || this.totals.bytes + this.#wantedBytes >= UNASKED_BYTES;
  }

  /** The index is this machine's: a pack that it tells of may be gone. */
  async #isPresent(pack: Digest): Promise<boolean> {
    let present = this.#present.get(pack);
    if (present === undefined) {
      present = (await this.#to.bucket.head(packKey(pack), this.#signal)) !== undefined;
      this.#present.set(pack, present);
    }
    return present;
  }

  async #carry(): Promise<void> {
    const wanted = this.#wanted;
    this.#wanted = new Map();
    this.#wantedBytes = 0;
    this.#wantedChunks = 0;
    const rest: Map<Digest, Wanted>[] = [];
    const carried = mapAhead(wanted, WHOLE_AT_ONCE, async ([pack, chunks]) => {
      this.#signal?.throwIfAborted();
      if (!(await this.#carryWhole(pack, chunks))) rest.push(chunks);
    });
    for await (const _ of carried);
    for (const chunks of rest) await this.#repack(chunks);
    await this.#storeReady();
    this.#index.flush();
  }

  /** @returns false where less than half of the pack is wanted, or it cannot be carried as it is */
  async #carryWhole(pack: Digest, chunks: ReadonlyMap<Digest, Wanted>): Promise<boolean> {
    let bytes = 0;
    for (const { location } of chunks.values()) bytes += location.stored;
    const info = await this.#from.bucket.head(packKey(pack), this.#signal);
    if (info === undefined || bytes * 2 < info.size || info.size > WHOLE_LIMIT) return false;
    let locations = await this.#sentBefore(pack, info.size);
    if (locations === undefined) {
      let found: Awaited<ReturnType<typeof readWholePack>>;
      try {
        found = await readWholePack(this.#from, pack, this.#signal);
      } catch (error) {
        // What is wanted of it may still be whole.
        if (error instanceof CorruptError) return false;
        throw error;
      }
      locations = locationsIn(pack, found.entries);
      await this.#to.bucket.put(packKey(pack), found.bytes, { signal: this.#signal });
      this.totals.wholePacks += 1;
      this.totals.packBytes += info.size;
      this.totals.chunks += chunks.size;
      this.totals.bytes += bytes;
      this.#onBytes?.();
    }
    const held = new Set(locations.map(({ id }) => id));
    for (const id of chunks.keys())
      if (!held.has(id))
        throw new CorruptError(
          `locations in ${this.#from.location} tell that chunk ${id} lies in pack ${pack}, which does not have it; 'larder verify' tells what else is wrong`,
          { facts: { pack, chunk: id, fault: 'it does not have it' } },
        );
    this.#present.set(pack, true);
    this.#located(locations);
    return true;
  }

  /** What a copy that was stopped has sent of a pack; undefined where it has not, or not so that it can be read. */
  async #sentBefore(pack: Digest, size: number): Promise<ChunkLocation[] | undefined> {
    const there = await this.#to.bucket.head(packKey(pack), this.#signal);
    if (there?.size !== size) return undefined;
    try {
      return locationsIn(pack, await readPackIndex(this.#to, pack, this.#signal));
    } catch (error) {
      if (error instanceof CorruptError) return undefined;
      throw error;
    }
  }

  async #repack(chunks: ReadonlyMap<Digest, Wanted>): Promise<void> {
    const runs = runsOf([...chunks.values()].map(({ location }) => location));
    const read = mapAhead(runs, RUNS_AHEAD, (run: Run) => readRun(this.#from, run, this.#signal));
    for await (const found of read) {
      this.#signal?.throwIfAborted();
      for (const { location, bytes } of found) {
        const { id, length, codec } = location;
        await this.#builder.add({ id, length, codec, bytes, wholeFile: chunks.get(id)!.wholeFile });
        this.totals.chunks += 1;
        this.totals.bytes += bytes.length;
        this.totals.packBytes += bytes.length;
      }
      this.#onBytes?.();
    }
  }

  #located(locations: readonly ChunkLocation[]): void {
    this.#index.insert(locations);
    for (const location of locations) {
      const waiters = this.#waiters.get(location.id);
      if (waiters === undefined) continue;
      this.#waiters.delete(location.id);
      for (const { waiting, at } of waiters) {
        waiting.places[at] = location;
        waiting.missing -= 1;
        if (waiting.missing > 0) continue;
        this.#waiting -= 1;
        this.#ready.push(waiting);
      }
    }
  }

  async #storeReady(): Promise<void> {
    const ready = this.#ready;
    this.#ready = [];
    const stored = mapAhead(ready, LEAVES_AT_ONCE, async ({ leaf, places }) => {
      const signal = this.#signal;
      const isPresent = (pack: Digest) => this.#isPresent(pack);
      await storeLocations(this.#to, leaf, places as ChunkLocation[], isPresent, signal);
      if (await putIfAbsent(this.#to, segmentKey(leaf.digest), leaf.object, signal)) this.totals.segments += 1;
      this.#index.insertSegment(leaf.digest, []);
    });
    for await (const _ of stored);
  }
}

/** Stores an object whose name is the digest of its bytes. @returns false where it is there already */
export async function putIfAbsent(
  { bucket }: Repository,
  key: string,
  object: Uint8Array,
  signal?: AbortSignal,
): Promise<boolean> {
  try {
    await bucket.put(key, object, { condition: 'absent', signal });
    return true;
  } catch (error) {
    if (error instanceof ConflictError) return false;
    throw error;
  }
}
