/**
 * How many bytes may still be written into a cache, in memory that all of its threads share: whoever writes takes them first, and no
 * thread has to ask another.
 */
export interface Room {
  /** False, and nothing taken, where there are not so many. */
  take(bytes: number): boolean;
  /** Takes them also where there are not so many: for what must be written. */
  seize(bytes: number): void;
  /** Back again: what was taken and not written. */
  give(bytes: number): void;
  /** What was taken lies in the cache now, and is counted there. To be said with the objects that are announced, on the main thread. */
  settle(bytes: number): void;
  /** May be negative: what is there was more than the limit when that was set. */
  readonly bytes: number;
  /** Taken, and neither given back nor settled. */
  readonly pending: number;
  set(bytes: number): void;
  /** By how much there is more, or less. */
  change(bytes: number): void;
  /** When nobody writes: what is still pending was lost by someone who ended without giving it back. */
  forgetPending(): void;
}

/** More than any disk has. */
const UNLIMITED = 2 ** 60;

const LEFT = 0;
const PENDING = 1;

/** Memory for `openRoom`. Until it is set, there is room without a limit. */
export function createRoom(bytes = UNLIMITED): SharedArrayBuffer {
  const shared = new SharedArrayBuffer(2 * BigInt64Array.BYTES_PER_ELEMENT);
  openRoom(shared).set(bytes);
  return shared;
}

export function openRoom(shared: SharedArrayBuffer): Room {
  const cells = new BigInt64Array(shared);
  const add = (cell: number, bytes: number) => {
    Atomics.add(cells, cell, BigInt(bytes));
  };
  return {
    take(bytes) {
      const wanted = BigInt(bytes);
      // First, so that who counts in between finds too little room rather than too much.
      add(PENDING, bytes);
      for (let there = Atomics.load(cells, LEFT); there >= wanted; ) {
        const before = Atomics.compareExchange(cells, LEFT, there, there - wanted);
        if (before === there) return true;
        there = before;
      }
      add(PENDING, -bytes);
      return false;
    },
    seize: (bytes) => {
      add(PENDING, bytes);
      add(LEFT, -bytes);
    },
    give: (bytes) => {
      add(LEFT, bytes);
      add(PENDING, -bytes);
    },
    settle: (bytes) => {
      add(PENDING, -bytes);
    },
    get bytes() {
      return Number(Atomics.load(cells, LEFT));
    },
    get pending() {
      return Math.max(0, Number(Atomics.load(cells, PENDING)));
    },
    set: (bytes) => {
      Atomics.store(cells, LEFT, BigInt(bytes));
    },
    change: (bytes) => {
      add(LEFT, bytes);
    },
    forgetPending: () => {
      Atomics.store(cells, PENDING, 0n);
    },
  };
}
