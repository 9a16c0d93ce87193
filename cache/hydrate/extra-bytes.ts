/** How much may be read twice, as a part of all that is read. */
const SHARE = 1 / 32;

/** What may be read twice before anything was read, and the most that may be saved up for it, in bytes. */
const FIRST = 4 * 1024 * 1024;
const MOST = 32 * 1024 * 1024;

/**
 * What may be read of a pack for somebody who waits, although the whole pack comes too: a bounded part of all that is read, so that
 * whoever reads everything loses little by it.
 */
export class ExtraBytes {
  #left = FIRST;

  /** So much was read in all. */
  note(bytes: number): void {
    this.#left = Math.min(MOST, this.#left + bytes * SHARE);
  }

  /** Whether so much may be read twice; then it counts. */
  take(bytes: number): boolean {
    if (bytes > this.#left) return false;
    this.#left -= bytes;
    return true;
  }
}
