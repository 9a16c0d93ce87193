import type { Pieces } from './pieces.ts';

/** Bytes for which one bit stands. */
export const BLOCK_BYTES = 64 * 1024;

/**
 * Which pieces of a sparse file are there, for this thread; and for another one that reads the file by itself, which blocks of it
 * are (bit `n & 7` of byte `n >>> 3` of `blocks` for block n, the last of which may be short).
 *
 * That other thread would hide from us how far a reader has come. So the block in which a piece begins that was fetched ahead is left
 * out until a read has come to it here.
 */
export class Presence {
  readonly blocks: SharedArrayBuffer;
  readonly #bits: Uint8Array;
  readonly #pieces: Pieces;
  readonly #there: Uint8Array;
  #missing: number;
  /** Pieces that are no holes. */
  readonly #chunks: number;

  constructor(pieces: Pieces) {
    this.#pieces = pieces;
    this.blocks = new SharedArrayBuffer(Math.max(1, Math.ceil(Math.ceil(pieces.size / BLOCK_BYTES) / 8)));
    this.#bits = new Uint8Array(this.blocks);
    this.#there = new Uint8Array(pieces.count);
    this.#missing = pieces.count;
    for (let at = 0; at < pieces.count; at += 1) if (pieces.isHole(at)) this.add(at);
    this.#chunks = this.#missing;
  }

  has(at: number): boolean {
    return this.#there[at] !== ABSENT;
  }

  /** Nothing is missing. */
  get whole(): boolean {
    return this.#missing === 0;
  }

  /** Nothing is there but holes. */
  get empty(): boolean {
    return this.#missing === this.#chunks;
  }

  /** @param ahead nobody asked for it yet */
  add(at: number, ahead = false): void {
    if (this.#there[at] === ABSENT) this.#missing -= 1;
    else if (ahead) return;
    this.#there[at] = ahead ? UNTOUCHED : THERE;
    this.#show(at);
  }

  /** A reader has come to it. */
  touch(at: number): void {
    if (this.#there[at] !== UNTOUCHED) return;
    this.#there[at] = THERE;
    this.#show(at);
  }

  /** Its bytes cannot be read after all. */
  lose(at: number): void {
    if (!this.has(at)) return;
    this.#there[at] = ABSENT;
    this.#missing += 1;
    const [first, last] = this.#blocksOf(at);
    for (let block = first; block <= last; block += 1) Atomics.and(this.#bits, block >>> 3, ~(1 << (block & 7)) & 0xff);
  }

  #show(at: number): void {
    const [first, last] = this.#blocksOf(at);
    for (let block = first; block <= last; block += 1) {
      // In between, it is all this piece's.
      const shown = block === first || block === last ? this.#mayShow(block) : true;
      if (shown) Atomics.or(this.#bits, block >>> 3, 1 << (block & 7));
    }
  }

  #mayShow(block: number): boolean {
    const pieces = this.#pieces;
    const start = block * BLOCK_BYTES;
    const end = Math.min(pieces.size, start + BLOCK_BYTES);
    for (let at = pieces.find(start); at < pieces.count && pieces.offset(at) < end; at += 1) {
      if (!this.has(at)) return false;
      if (this.#there[at] === UNTOUCHED && pieces.offset(at) >= start) return false;
    }
    return true;
  }

  #blocksOf(at: number): [first: number, last: number] {
    const end = this.#pieces.offset(at + 1);
    return [Math.floor(this.#pieces.offset(at) / BLOCK_BYTES), Math.floor((end - 1) / BLOCK_BYTES)];
  }
}

const ABSENT = 0;
const UNTOUCHED = 1;
const THERE = 2;
