/** Pulls exact numbers of bytes from a stream of blocks. */
export class PullBytes {
  readonly #blocks: AsyncIterator<Uint8Array>;
  #block: Buffer = Buffer.alloc(0);
  #ended = false;
  /** Bytes pulled so far. */
  position = 0;

  constructor(blocks: AsyncIterable<Uint8Array>) {
    this.#blocks = blocks[Symbol.asyncIterator]();
  }

  /** The next bytes, at most `most` of them, as they came; undefined at the end. Good until the next call. */
  async some(most: number): Promise<Buffer | undefined> {
    while (this.#block.length === 0) {
      if (this.#ended) return undefined;
      const { done, value } = await this.#blocks.next();
      if (done) {
        this.#ended = true;
        return undefined;
      }
      this.#block = Buffer.isBuffer(value) ? value : Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    }
    const bytes = this.#block.subarray(0, most);
    this.#block = this.#block.subarray(bytes.length);
    this.position += bytes.length;
    return bytes;
  }

  /** The next `length` bytes; fewer where the stream ends before. */
  async exactly(length: number): Promise<Buffer> {
    const first = await this.some(length);
    if (first === undefined || first.length === length) return first ?? Buffer.alloc(0);
    const parts = [first];
    let have = first.length;
    while (have < length) {
      const more = await this.some(length - have);
      if (more === undefined) break;
      parts.push(more);
      have += more.length;
    }
    return Buffer.concat(parts, have);
  }

  /** Passes bytes by. Whether they were all there. */
  async skip(length: number): Promise<boolean> {
    for (let left = length; left > 0; ) {
      const passed = await this.some(left);
      if (passed === undefined) return false;
      left -= passed.length;
    }
    return true;
  }

  async close(): Promise<void> {
    if (!this.#ended) await this.#blocks.return?.();
    this.#ended = true;
  }
}
