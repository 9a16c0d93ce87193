import type { Digest } from '../digest.ts';
import { ConflictError } from '../errors.ts';
import type { ChunkRef } from '../format/chunk-list.ts';
import { segmentKey } from '../keys.ts';
import type { Repository } from '../repository.ts';
import { Turns } from '../turns.ts';
import type { BuiltSegment } from './tree-builder.ts';

/** A leaf segment that is stored, and the chunks of its entries in the order of its locations, if it has been read. */
export interface BaseLeaf {
  readonly digest: Digest;
  readonly chunks?: readonly ChunkRef[];
}

/** A leaf segment that the base does not have. */
export interface NewLeaf {
  readonly digest: Digest;
  /** The chunks of its entries, each once, in order of first appearance: the order of its locations. */
  readonly chunks: readonly ChunkRef[];
  /** Leaves of the base, and those that changes tell of, that chunks of it may come from: their locations tell where they lie. */
  readonly from: readonly BaseLeaf[];
}

/** Who makes sure that what a segment names is stored before it. */
export interface ManifestSink {
  /**
   * Called for each new leaf, in path order, without waiting for the call before. The leaf is stored once the promise resolves: so
   * the leaf's locations must be then. It may wait for a pack that fills from later changes; the packs must be flushed, at the latest,
   * before the changes come to their end.
   */
  leaf(leaf: NewLeaf): Promise<void>;
}

/** Segments that are being written at once. */
const WRITES = 32;
/** Segments whose leaf call is done and that wait to be written: beyond this, no more entries are taken. */
const QUEUE = 64;

/** Stores segments as they complete, in the background. */
export class SegmentWriter {
  readonly #repository: Repository;
  readonly #sink: ManifestSink | undefined;
  readonly #turns = new Turns(WRITES);
  #pending = 0;
  #puts = 0;
  #isStopped = false;
  #failure: { readonly error: unknown } | undefined;
  #wake: (() => void) | undefined;
  #segments = 0;
  #bytes = 0;

  constructor(repository: Repository, sink: ManifestSink | undefined) {
    this.#repository = repository;
    this.#sink = sink;
  }

  /** Segments stored, those not counted that were there. */
  get segments(): number {
    return this.#segments;
  }

  /** Their objects' bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether `ready` must be waited for. */
  get isFull(): boolean {
    return this.#failure !== undefined || this.#turns.waiting >= QUEUE;
  }

  submit(segment: BuiltSegment, from: readonly BaseLeaf[]): void {
    this.#pending += 1;
    void this.#store(segment, from)
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => {
        this.#pending -= 1;
        this.#wake?.();
      });
  }

  /** Waits until there is room for more; throws what made a write fail. */
  async ready(): Promise<void> {
    await this.#until(() => this.#turns.waiting < QUEUE);
  }

  /** Waits until all is stored; throws what made a write fail. */
  async finish(): Promise<void> {
    await this.#until(() => this.#pending === 0);
  }

  /** Begins no more writes, and waits for those that are under way. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    while (this.#puts > 0) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async #until(holds: () => boolean): Promise<void> {
    while (!holds() && this.#failure === undefined) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async #store(segment: BuiltSegment, from: readonly BaseLeaf[]): Promise<void> {
    const { digest, level, chunks, object } = segment;
    if (level === 0) await this.#sink?.leaf({ digest, chunks, from });
    await this.#turns.run(async () => {
      if (this.#isStopped) return;
      this.#puts += 1;
      try {
        await this.#repository.bucket.put(segmentKey(digest), object, { condition: 'absent' });
      } catch (error) {
        // The name is the digest of the bytes: what is there is this segment.
        if (!(error instanceof ConflictError)) throw error;
        return;
      } finally {
        this.#puts -= 1;
      }
      this.#segments += 1;
      this.#bytes += object[0].length + object[1].length;
    });
  }
}
