/** How many more requests a success lets in flight after the store asked for fewer: one for each round of all of them. */
const FASTER = 1;

/**
 * Lets so many requests be in flight, first come, first served. When the store says that it is too much, half as many: then
 * slowly more again, as TCP does.
 */
export class Limiter {
  readonly #most: number;
  #allowed: number;
  #used = 0;
  readonly #waiting: (() => void)[] = [];
  #slowedAt = Number.NEGATIVE_INFINITY;

  constructor(most: number) {
    this.#most = most;
    this.#allowed = most;
  }

  get allowed(): number {
    return Math.floor(this.#allowed);
  }

  /** Waits for a place; `release` gives it back, and more than once does no harm. */
  async enter(signal?: AbortSignal): Promise<Place> {
    signal?.throwIfAborted();
    if (this.#used >= this.allowed || this.#waiting.length > 0) await this.#wait(signal);
    else this.#used += 1;
    let held = true;
    const release = () => {
      if (!held) return;
      held = false;
      this.#used -= 1;
      this.#admit();
    };
    return { release, [Symbol.dispose]: release };
  }

  /** The store asked for less. Answers to requests that were under way together count once. */
  slowDown(now = performance.now()): void {
    if (now - this.#slowedAt < 1000) return;
    this.#slowedAt = now;
    this.#allowed = Math.max(1, this.#allowed / 2);
  }

  succeeded(): void {
    if (this.#allowed < this.#most) this.#allowed = Math.min(this.#most, this.#allowed + FASTER / this.#allowed);
  }

  #wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const admitted = () => {
        signal?.removeEventListener('abort', abort);
        resolve();
      };
      const abort = () => {
        this.#waiting.splice(this.#waiting.indexOf(admitted), 1);
        reject(signal!.reason);
      };
      signal?.addEventListener('abort', abort, { once: true });
      this.#waiting.push(admitted);
    });
  }

  #admit(): void {
    while (this.#used < this.allowed && this.#waiting.length > 0) {
      this.#used += 1;
      this.#waiting.shift()!();
    }
  }
}

export interface Place extends Disposable {
  release(): void;
}
