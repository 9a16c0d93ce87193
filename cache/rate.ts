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
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#serve();
  }

  /** Resolves when so many bytes may be passed on. Rejects with the signal's reason. */
  async take(bytes: number, urgent: boolean, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.#refill();
    if (this.#balance > 0 && this.#urgent.length + (urgent ? 0 : this.#other.length) === 0) {
      this.#balance -= bytes;
      return;
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const queue = urgent ? this.#urgent : this.#other;
    const waiter = { bytes, go: resolve };
    const leave = () => {
      queue.splice(queue.indexOf(waiter), 1);
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
    while (this.#balance > 0) {
      const next = this.#urgent.shift() ?? this.#other.shift();
      if (next === undefined) return;
      this.#balance -= next.bytes;
      next.go();
    }
    if (this.#urgent.length + this.#other.length === 0 || this.#timer !== undefined) return;
    const wait = Math.max(1, (-this.#balance / this.#bytesPerSecond) * 1000);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#serve();
    }, wait);
  }
}
