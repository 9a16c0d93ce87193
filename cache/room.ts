/**
 * How many bytes may still be written into a cache, in memory that all of its threads share: whoever writes takes them first, and no
 * thread has to ask another.
 */
export interface Room {
  /** False, and nothing taken, where there are not so many. */
  take(bytes: number): boolean;
  /** Back again: what was taken and not written. */
  give(bytes: number): void;
  /** May be negative: what is there was more than the limit when that was set. */
  readonly bytes: number;
  set(bytes: number): void;
}

/** More than any disk has. */
const UNLIMITED = 2 ** 60;

/** Memory for `openRoom`. Until it is set, there is room without a limit. */
export function createRoom(bytes = UNLIMITED): SharedArrayBuffer {
  const shared = new SharedArrayBuffer(BigInt64Array.BYTES_PER_ELEMENT);
  openRoom(shared).set(bytes);
  return shared;
}

export function openRoom(shared: SharedArrayBuffer): Room {
  const cell = new BigInt64Array(shared);
  return {
    take(bytes) {
      const wanted = BigInt(bytes);
      for (let there = Atomics.load(cell, 0); there >= wanted; ) {
        const before = Atomics.compareExchange(cell, 0, there, there - wanted);
        if (before === there) return true;
        there = before;
      }
      return false;
    },
    give: (bytes) => {
      Atomics.add(cell, 0, BigInt(bytes));
    },
    get bytes() {
      return Number(Atomics.load(cell, 0));
    },
    set: (bytes) => {
      Atomics.store(cell, 0, BigInt(bytes));
    },
  };
}
