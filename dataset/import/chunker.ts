import { createHash } from 'node:crypto';

/**
 * Content-defined chunking after FastCDC (Xia et al., "FastCDC: a Fast and Efficient Content-Defined Chunking Approach for Data
 * Deduplication", USENIX ATC 2016): a gear hash over the last 32 bytes, no test before the minimum, a harder test before the average
 * size and an easier one after it (normalized chunking, level 2), a cut at the maximum at the latest.
 *
 * Where a file is cut depends on its bytes only, and every writer must cut alike or nothing is shared: these numbers are part
 * of the format (docs/formats.md).
 */
export const CHUNK_MIN = 1 << 20;
export const CHUNK_AVERAGE = 4 << 20;
export const CHUNK_MAX = 16 << 20;

/**
 * A cut is where these bits of the hash are all zero. The hash's top bits have seen the most bytes, so those are taken: 24 before the
 * average, 20 after it, around log2(4 MiB) = 22.
 */
const MASK_HARD = 0xffffff00 | 0;
const MASK_EASY = 0xfffff000 | 0;

/** What a byte adds to the hash: the first four bytes, little-endian, of SHA-256("larder gear" and that byte). */
const GEAR = gearTable();

function gearTable(): Int32Array {
  const table = new Int32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    const digest = createHash('sha256').update('larder gear').update(Uint8Array.of(byte)).digest();
    table[byte] = digest.readInt32LE(0);
  }
  return table;
}

/** Finds the end of one chunk in data that grows: what was looked at is not looked at again. */
export class Cutter {
  #at = 0;
  #hash = 0;

  /**
   * @param data begins where the chunk does; each call for the same chunk has the same bytes and more
   * @param last whether `data` is all there is
   * @returns the chunk's length, and the next call begins a new chunk; 0 if more data is needed
   */
  cut(data: Uint8Array, last: boolean): number {
    const length = this.#find(data);
    if (length === 0 && !last) return 0;
    this.#at = 0;
    this.#hash = 0;
    return length === 0 ? data.length : length;
  }

  #find(data: Uint8Array): number {
    const end = Math.min(data.length, CHUNK_MAX);
    if (end <= CHUNK_MIN) return 0;
    if (this.#at === 0) {
      // The hash forgets all but the last 32 bytes: beginning 32 before the first place of a cut makes it a function of the bytes alone.
      for (let i = CHUNK_MIN - 32; i < CHUNK_MIN; i++) this.#hash = ((this.#hash << 1) + GEAR[data[i]!]!) | 0;
      this.#at = CHUNK_MIN;
    }
    const middle = Math.min(end, CHUNK_AVERAGE);
    const found = this.#scan(data, middle, MASK_HARD) || this.#scan(data, end, MASK_EASY);
    return found || (end === CHUNK_MAX ? CHUNK_MAX : 0);
  }

  /** The place behind the first byte before `end` at which the masked hash is zero; 0 if there is none. */
  #scan(data: Uint8Array, end: number, mask: number): number {
    const gear = GEAR;
    let hash = this.#hash;
    let i = this.#at;
    for (; i < end; i++) {
      hash = ((hash << 1) + gear[data[i]!]!) | 0;
      if ((hash & mask) === 0) {
        this.#at = i + 1;
        return i + 1;
      }
    }
    this.#at = i;
    this.#hash = hash;
    return 0;
  }
}
