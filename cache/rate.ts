/** What may come at once after a rest: what a quarter of a second brings, and no less than one block of a read; in bytes. */
const REST_SECONDS = 0.25;
const LEAST_BURST = 64 * 1024;

interface Waiter {
  readonly bytes: number;
  readonly go: () => void;
}

/**
 * So many bytes a second, for all who read under it. Who asks for bytes that have come waits until they are due: those whom somebody waits for
 * first, and among equals each gets one block in its turn.
 */
export class Rate {
  readonly #urgent: Waiter[] = [];
  readonly #other: Waiter[] = [];
  #bytesPerSecond: number;
  /** Negative while what came is not yet due. */
  #balance: number;
  #at = performance.now();
  #timer: NodeJS.Timeout | undefined;

  constructor(bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#balance = this.#burst;
  }

  get bytesPerSecond(): number {
    return this.#bytesPerSecond;
  }

  /** From now on; infinity lets all go who wait. */
  set bytesPerSecond(value: number) {
    this.#refill();
    this.#bytesPerSecond = value;
    this.#serve();
  }

  /** Resolves when so many bytes may be passed on. Rejects with the signal's reason. */
  async take(bytes: number, urgent: boolean, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.#refill();
    if (this.#isDue(bytes) && this.#urgent.length + (urgent ? 0 : this.#other.length) === 0) {
      this.#balance -= bytes;
      return;
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const queue = urgent ? this.#urgent : this.#other;
    const waiter = { bytes, go: resolve };
    const leave = () => {
      // It may have gone in this very turn.
      const at = queue.indexOf(waiter);
      if (at >= 0) queue.splice(at, 1);
      reject(signal.reason);
    };
    queue.push(waiter);
    signal.addEventListener('abort', leave, { once: true });
    this.#serve();
    try {
      await promise;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }

  #first(): Waiter | undefined {
    return this.#urgent[0] ?? this.#other[0];
  }

  /** A block that is larger than what may come at once goes when that may, and the rest of it is paid for by the next. */
  #needed(bytes: number): number {
    return Math.min(bytes, this.#burst);
  }

  #isDue(bytes: number): boolean {
    return this.#balance >= this.#needed(bytes);
  }

  get #burst(): number {
    return Math.max(LEAST_BURST, this.#bytesPerSecond * REST_SECONDS);
  }

  #refill(): void {
    const now = performance.now();
    const due = (this.#bytesPerSecond * (now - this.#at)) / 1000;
    this.#at = now;
    this.#balance = Number.isFinite(due) ? Math.min(this.#burst, this.#balance + due) : Number.MAX_SAFE_INTEGER;
  }

  #serve(): void {
    this.#refill();
    let next = this.#first();
    for (; next !== undefined && this.#isDue(next.bytes); next = this.#first()) {
      (this.#urgent.shift() ?? this.#other.shift())!.go();
      this.#balance -= next.bytes;
    }
    // For who is first now, which may be another than when it was set.
    clearTimeout(this.#timer);
    if (next === undefined) return;
    const wait = Math.max(1, ((this.#needed(next.bytes) - this.#balance) / this.#bytesPerSecond) * 1000);
    this.#timer = setTimeout(() => this.#serve(), wait);
  }
}
