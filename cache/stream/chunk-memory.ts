/** Verified pieces in memory. First go those that were read to their end, then the least recently read. */
export class ChunkMemory {
  readonly limit: number;
  readonly #kept = new Map<string, Uint8Array>();
  readonly #done = new Set<string>();
  #bytes = 0;

  /** @param limit in bytes; a single piece that is larger is kept until the next comes */
  constructor(limit: number) {
    this.limit = limit;
  }

  get bytes(): number {
    return this.#bytes;
  }

  has(key: string): boolean {
    return this.#kept.has(key);
  }

  get(key: string): Uint8Array | undefined {
    const bytes = this.#kept.get(key);
    if (!bytes) return undefined;
    this.#kept.delete(key);
    this.#kept.set(key, bytes);
    this.#done.delete(key);
    return bytes;
  }

  /** A reader has come to its end. */
  finish(key: string): void {
    if (this.#kept.has(key)) this.#done.add(key);
  }

  put(key: string, bytes: Uint8Array): void {
    this.drop(key);
    this.#kept.set(key, bytes);
    this.#bytes += bytes.length;
    for (const keys of [this.#done, this.#kept.keys()]) {
      for (const oldest of keys) {
        if (this.#bytes <= this.limit || this.#kept.size === 1) return;
        this.drop(oldest);
      }
    }
  }

  drop(key: string): void {
    const bytes = this.#kept.get(key);
    if (!bytes) return;
    this.#kept.delete(key);
    this.#done.delete(key);
    this.#bytes -= bytes.length;
  }

  clear(): void {
    this.#kept.clear();
    this.#done.clear();
    this.#bytes = 0;
  }
}
