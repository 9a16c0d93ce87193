import { DIGEST_BYTES, type Digest, digestFromBytes, digestToBytes, isDigest } from '../digest.ts';
import { PACKS } from '../keys.ts';
import type { Repository } from '../repository.ts';

/** A digest, and a size in 6 bytes. */
const ROW_BYTES = DIGEST_BYTES + 6;

/** The packs that a repository has, with their sizes: 38 bytes of memory each. A listing is in order, so it is searched by halves. */
export class PackList {
  #rows: Buffer = Buffer.alloc(1024 * ROW_BYTES);
  #count = 0;
  #bytes = 0;

  static async read({ bucket }: Repository, signal?: AbortSignal): Promise<PackList> {
    const list = new PackList();
    for await (const { key, size } of bucket.list(PACKS, { signal })) {
      const id = key.slice(key.lastIndexOf('/') + 1);
      if (isDigest(id)) list.#add(id, size);
    }
    return list;
  }

  get size(): number {
    return this.#count;
  }

  /** Of all packs. */
  get bytes(): number {
    return this.#bytes;
  }

  has(pack: Digest): boolean {
    return this.bytesOf(pack) !== undefined;
  }

  /** The pack's size; undefined where there is no such pack. */
  bytesOf(pack: Digest): number | undefined {
    const wanted = digestToBytes(pack);
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#rows.compare(wanted, 0, DIGEST_BYTES, middle * ROW_BYTES, middle * ROW_BYTES + DIGEST_BYTES) < 0)
        low = middle + 1;
      else high = middle;
    }
    const at = low * ROW_BYTES;
    if (low === this.#count || this.#rows.compare(wanted, 0, DIGEST_BYTES, at, at + DIGEST_BYTES) !== 0)
      return undefined;
    return this.#rows.readUIntLE(at + DIGEST_BYTES, 6);
  }

  *[Symbol.iterator](): Generator<Digest> {
    for (let i = 0; i < this.#count; i++) yield digestFromBytes(this.#rows, i * ROW_BYTES);
  }

  #add(id: Digest, size: number): void {
    const at = this.#count * ROW_BYTES;
    if (at === this.#rows.length) this.#rows = Buffer.concat([this.#rows, Buffer.alloc(this.#rows.length)]);
    this.#rows.write(id, at, 'hex');
    this.#rows.writeUIntLE(size, at + DIGEST_BYTES, 6);
    this.#count += 1;
    this.#bytes += size;
  }
}
