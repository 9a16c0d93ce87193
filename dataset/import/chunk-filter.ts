import type { Digest } from '../digest.ts';

/** Bits for each chunk that a layer is made for, and how many of them a chunk sets: one unknown chunk in 400 looks known. */
const BITS_EACH = 16;
const PROBES = 4;
/** Bits of the first layer; each further one has four times as many as the one before. */
const FIRST_BITS = 1 << 20;

/**
 * Tells of most chunks that were never added that they were not, without a look into the index (a Bloom filter over the digests themselves,
 * which are random already; it grows by layers).
 */
export class ChunkFilter {
  readonly #layers: Uint32Array[] = [new Uint32Array(FIRST_BITS / 32)];
  /** How many more the last layer takes. */
  #room = FIRST_BITS / BITS_EACH;

  add(id: Digest): void {
    let layer = this.#layers.at(-1)!;
    if (this.#room === 0) {
      layer = new Uint32Array(layer.length * 4);
      this.#layers.push(layer);
      this.#room = (layer.length * 32) / BITS_EACH;
    }
    this.#room--;
    const mask = layer.length * 32 - 1;
    for (let i = 0; i < PROBES; i++) {
      const bit = (probe(id, i) & mask) >>> 0;
      layer[bit >>> 5]! |= 1 << (bit & 31);
    }
  }

  /** False: it was never added. */
  mayHave(id: Digest): boolean {
    return this.#layers.some((layer) => {
      const mask = layer.length * 32 - 1;
      for (let i = 0; i < PROBES; i++) {
        const bit = (probe(id, i) & mask) >>> 0;
        if ((layer[bit >>> 5]! & (1 << (bit & 31))) === 0) return false;
      }
      return true;
    });
  }
}

/** 32 of the digest's bits. */
function probe(id: Digest, number: number): number {
  let value = 0;
  for (let i = number * 8, end = i + 8; i < end; i++) {
    const code = id.charCodeAt(i);
    value = (value << 4) | (code < 0x3a ? code - 0x30 : code - 0x57);
  }
  return value >>> 0;
}
