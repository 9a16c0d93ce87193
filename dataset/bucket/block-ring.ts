import type { Bucket, BucketObject, GetOptions, Into } from './bucket.ts';

/** In bytes. */
const RING_BYTES = 1024 * 1024;
const PIECE_BYTES = 256 * 1024;

/**
 * Memory that bodies are read through, one at a time, by a reader that uses each block only until it asks for the next. It is made when a bucket asks
 * for it.
 */
export class BlockRing {
  #memory: Buffer | undefined;
  #given = 0;
  #free = RING_BYTES;
  #waiting: ((piece: Uint8Array) => void) | undefined;

  /** As the bucket's own `get`. The body that came before must have ended, or been left. */
  async get(bucket: Pick<Bucket, 'get'>, key: string, options: GetOptions): Promise<BucketObject> {
    this.#given = 0;
    this.#free = RING_BYTES;
    this.#waiting = undefined;
    const object = await bucket.get(key, { ...options, into: this.#into });
    return { ...object, body: this.#freeing(object.body[Symbol.asyncIterator]()) };
  }

  readonly #into: Into = () => {
    if (this.#free >= PIECE_BYTES) return this.#piece();
    return new Promise((resolve) => {
      this.#waiting = resolve;
    });
  };

  #piece(): Uint8Array {
    this.#memory ??= Buffer.allocUnsafeSlow(RING_BYTES);
    const from = this.#given % RING_BYTES;
    this.#given += PIECE_BYTES;
    this.#free -= PIECE_BYTES;
    return this.#memory.subarray(from, from + PIECE_BYTES);
  }

  #freeing(blocks: AsyncIterator<Buffer>): AsyncIterableIterator<Buffer> {
    let last = 0;
    return {
      [Symbol.asyncIterator]() {
        return this;
      },
      next: async () => {
        this.#freed(last);
        last = 0;
        const result = await blocks.next();
        if (!result.done && result.value.buffer === this.#memory?.buffer) last = result.value.length;
        return result;
      },
      return: async () => (await blocks.return?.()) ?? { done: true, value: undefined },
    };
  }

  #freed(bytes: number): void {
    this.#free += bytes;
    const waiting = this.#waiting;
    if (waiting === undefined || this.#free < PIECE_BYTES) return;
    this.#waiting = undefined;
    waiting(this.#piece());
  }
}
