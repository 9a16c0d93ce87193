/** How long one number of reads is tried before it is judged, in milliseconds. */
const TRIAL = 1_000;

/** A further read is worth it where it brings so much more, as a part of what came before. */
const GAIN = 0.05;

/** Trials until one more is tried again after it did not help. */
const REST = 8;

/**
 * How many reads of a bucket go on at a time: one more as long as that brings more bytes a second, one less where it does not. What a
 * store says of its own load is not its matter: a bucket's own limiter hears that.
 */
export class Pace {
  readonly #most: number;
  #limit: number;
  #since: number | undefined;
  #bytes = 0;
  /** Bytes a millisecond with one read less; undefined where the last trial was no step up. */
  #before: number | undefined;
  #rest = 1;

  /** @param most at least 1 */
  constructor(most: number, first = 4) {
    this.#most = most;
    this.#limit = Math.min(first, most);
  }

  get limit(): number {
    return this.#limit;
  }

  /**
   * So many bytes came.
   * @param saturated whether more reads waited to be begun: otherwise the number of reads is not what limits
   */
  note(bytes: number, saturated: boolean, now = performance.now()): void {
    if (!saturated) {
      this.#since = undefined;
      return;
    }
    if (this.#since === undefined) {
      this.#since = now;
      this.#bytes = 0;
    }
    this.#bytes += bytes;
    if (now - this.#since < TRIAL) return;
    this.#judge(this.#bytes / (now - this.#since));
    this.#since = now;
    this.#bytes = 0;
  }

  #judge(rate: number): void {
    if (this.#before !== undefined && rate < this.#before * (1 + GAIN)) {
      this.#limit = Math.max(1, this.#limit - 1);
      this.#before = undefined;
      this.#rest = REST;
      return;
    }
    if (this.#before === undefined && this.#rest > 1) {
      this.#rest -= 1;
      return;
    }
    if (this.#limit === this.#most) {
      this.#before = undefined;
      return;
    }
    this.#before = rate;
    this.#limit += 1;
  }
}
