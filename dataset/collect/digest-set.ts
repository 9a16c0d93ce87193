import { DIGEST_BYTES, type Digest, digestFromBytes } from '../digest.ts';

/** The first room, in digests; a power of two. */
const FIRST = 1024;

/** A set of digests in one block of memory: about 50 bytes each. */
export class DigestSet {
  #slots = Buffer.alloc(FIRST * DIGEST_BYTES);
  #taken = new Uint8Array(FIRST);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  has(digest: Digest): boolean {
    return this.#taken[this.#slotOf(Buffer.from(digest, 'hex'))] === 1;
  }

  /** @returns false where it was there already */
  add(digest: Digest): boolean {
    const bytes = Buffer.from(digest, 'hex');
    if (this.#size * 4 >= this.#taken.length * 3) this.#grow();
    const slot = this.#slotOf(bytes);
    if (this.#taken[slot] === 1) return false;
    this.#put(slot, bytes);
    return true;
  }

  *[Symbol.iterator](): Generator<Digest> {
    for (let slot = 0; slot < this.#taken.length; slot++)
      if (this.#taken[slot] === 1) yield digestFromBytes(this.#at(slot));
  }

  /** Where it is, or where it belongs. Digests are random: their first bytes are as good as a hash. */
  #slotOf(bytes: Buffer): number {
    const mask = this.#taken.length - 1;
    let slot = bytes.readUInt32LE(0) & mask;
    while (this.#taken[slot] === 1 && bytes.compare(this.#slots, slot * DIGEST_BYTES, (slot + 1) * DIGEST_BYTES) !== 0)
      slot = (slot + 1) & mask;
    return slot;
  }

  #at(slot: number): Buffer {
    return this.#slots.subarray(slot * DIGEST_BYTES, (slot + 1) * DIGEST_BYTES);
  }

  #put(slot: number, bytes: Buffer): void {
    this.#slots.set(bytes, slot * DIGEST_BYTES);
    this.#taken[slot] = 1;
    this.#size += 1;
  }

  #grow(): void {
    const slots = this.#slots;
    const taken = this.#taken;
    this.#slots = Buffer.alloc(slots.length * 2);
    this.#taken = new Uint8Array(taken.length * 2);
    this.#size = 0;
    for (let slot = 0; slot < taken.length; slot++) {
      if (taken[slot] === 0) continue;
      const bytes = slots.subarray(slot * DIGEST_BYTES, (slot + 1) * DIGEST_BYTES);
      this.#put(this.#slotOf(bytes), bytes);
    }
  }
}
