import type { Extent } from './block.ts';

/** A thread's side of a `BlockRow`: puts chunks behind each other. */
export class BlockWriter {
  readonly #take: () => Promise<SharedArrayBuffer>;
  #memory: Uint8Array | undefined;
  #block = -1;
  #used = 0;

  /** @param take gives the next block, once there is one */
  constructor(take: () => Promise<SharedArrayBuffer>) {
    this.#take = take;
  }

  async write(bytes: Uint8Array): Promise<readonly Extent[]> {
    const extents: Extent[] = [];
    for (let done = 0; done < bytes.length; ) {
      if (this.#memory === undefined || this.#used === this.#memory.length) {
        this.#memory = new Uint8Array(await this.#take());
        this.#block += 1;
        this.#used = 0;
      }
      const length = Math.min(bytes.length - done, this.#memory.length - this.#used);
      this.#memory.set(bytes.subarray(done, done + length), this.#used);
      extents.push({ block: this.#block, offset: this.#used, length });
      this.#used += length;
      done += length;
    }
    return extents;
  }
}
