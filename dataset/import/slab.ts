/** Bytes of one slab. */
const SLAB = 4 << 20;

/** Memory that a chunk lies in until it is stored. */
export interface Held {
  /** One of its chunks is stored. */
  release(): void;
}

/** Memory of many chunks, given back as soon as the last of them is stored: the garbage collector would let it pile up. */
export class Slab implements Held {
  readonly #buffer: Buffer;
  #used = 0;
  #left = 0;
  #isFull = false;

  private constructor(buffer: Buffer) {
    this.#buffer = buffer;
  }

  static create(): Slab {
    return new Slab(Buffer.allocUnsafeSlow(SLAB));
  }

  /** For one large chunk that has memory of its own. */
  static around(bytes: Buffer): Slab {
    const slab = new Slab(bytes);
    slab.#left = 1;
    slab.#isFull = true;
    return slab;
  }

  /** A copy of the bytes; undefined where there is no room, and none will be added any more. */
  copy(bytes: Buffer): Buffer | undefined {
    if (this.#used + bytes.length > this.#buffer.length) {
      this.#isFull = true;
      this.#freeIfDone();
      return undefined;
    }
    const copy = this.#buffer.subarray(this.#used, this.#used + bytes.length);
    bytes.copy(copy);
    this.#used += bytes.length;
    this.#left++;
    return copy;
  }

  release(): void {
    this.#left--;
    this.#freeIfDone();
  }

  #freeIfDone(): void {
    if (this.#isFull && this.#left === 0) freeBuffer(this.#buffer);
  }
}

/** Gives the memory of a buffer back at once. Nothing may use it any more. */
export function freeBuffer(bytes: Uint8Array): void {
  const { buffer } = bytes;
  if (buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer(0);
}

/** Smaller chunks are copied into slabs. */
export const SLAB_CHUNK = 1 << 20;
