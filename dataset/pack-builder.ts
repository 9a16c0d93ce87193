import type { Digest } from './digest.ts';
import type { ChunkCodec, ChunkLocation } from './format/locations.ts';
import { encodePackIndex, PACK_CHUNKS_LIMIT, PACK_ROW_BYTES, type PackedChunk, packIndexBytes } from './format/pack.ts';
import { packKey } from './keys.ts';
import type { Repository } from './repository.ts';

/** A pack is closed when its object would reach this many bytes. */
export const PACK_TARGET_BYTES = 32 * 1024 * 1024;

/** Packs that are being written while the next one fills. */
const PACKS_IN_FLIGHT = 1;

export interface PackBuilderOptions {
  /** In bytes; `PACK_TARGET_BYTES` if not said. */
  readonly target?: number;
  /** Called when a pack is durable, with where its chunks lie, in the order in which they were added. */
  readonly onPack?: (pack: Digest, locations: readonly ChunkLocation[]) => void | Promise<void>;
  readonly signal?: AbortSignal;
}

/** A chunk ready to be packed. */
export interface ChunkToPack {
  readonly id: Digest;
  /** Bytes of the chunk itself. */
  readonly length: number;
  readonly codec: ChunkCodec;
  /** The bytes to store, in one piece or in several. Kept until the pack is written: not to be changed after. */
  readonly bytes: Buffer | readonly Buffer[];
  /** Whether the chunk is all of some file. */
  readonly wholeFile: boolean;
}

/** Collects chunks into packs and writes each when it is full. Holds one pack that fills and `PACKS_IN_FLIGHT` that are written. */
export class PackBuilder {
  readonly #repository: Repository;
  readonly #options: PackBuilderOptions;
  readonly #target: number;
  #chunks: PackedChunk[] = [];
  #bodies: Buffer[] = [];
  #size = packIndexBytes(0);
  #inFlight = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;
  #packs = 0;
  #bytes = 0;

  constructor(repository: Repository, options: PackBuilderOptions = {}) {
    this.#repository = repository;
    this.#options = options;
    this.#target = options.target ?? PACK_TARGET_BYTES;
  }

  /** Packs written, and their objects' bytes. */
  get packs(): number {
    return this.#packs;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Takes a chunk; the same one twice makes two copies. Wait for it before the next: it resolves when there is room. Throws what
   * made a write fail.
   */
  async add({ id, length, codec, bytes, wholeFile }: ChunkToPack): Promise<void> {
    let stored = 0;
    for (const piece of Buffer.isBuffer(bytes) ? [bytes] : bytes) {
      this.#bodies.push(piece);
      stored += piece.length;
    }
    this.#chunks.push({ id, stored, length, codec, wholeFile });
    this.#size += PACK_ROW_BYTES + stored;
    if (this.#size >= this.#target || this.#chunks.length >= PACK_CHUNKS_LIMIT) this.#close();
    while (this.#inFlight.size > PACKS_IN_FLIGHT && this.#failure === undefined) await Promise.race(this.#inFlight);
    this.#throwFailure();
  }

  /** Writes what there is, and resolves when every pack is durable and every `onPack` done. */
  async flush(): Promise<void> {
    if (this.#chunks.length > 0) this.#close();
    while (this.#inFlight.size > 0) await Promise.all(this.#inFlight);
    this.#throwFailure();
  }

  #close(): void {
    const chunks = this.#chunks;
    const bodies = this.#bodies;
    const size = this.#size;
    this.#chunks = [];
    this.#bodies = [];
    this.#size = packIndexBytes(0);
    const write: Promise<void> = this.#write(chunks, bodies, size)
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => this.#inFlight.delete(write));
    this.#inFlight.add(write);
  }

  async #write(chunks: readonly PackedChunk[], bodies: readonly Buffer[], size: number): Promise<void> {
    const { id, head } = encodePackIndex(chunks);
    // Without a condition: a pack of the same id holds the same chunks, and if it was damaged, it is whole after this.
    await this.#repository.bucket.put(packKey(id), [head, ...bodies], { signal: this.#options.signal });
    this.#packs += 1;
    this.#bytes += size;
    let offset = head.length;
    const locations = chunks.map(({ id: chunk, stored, length, codec }) => {
      const location = { id: chunk, pack: id, offset, stored, length, codec };
      offset += stored;
      return location;
    });
    await this.#options.onPack?.(id, locations);
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}
