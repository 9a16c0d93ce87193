import type { Into } from '../bucket.ts';
import { wrongAnswer } from './failure.ts';

/** What brings the bytes of a body: it puts them into the memory of an `Inflow`, and tells when that is all. */
export interface Inlet {
  /** Begins. */
  open(inflow: Inflow): void;
  /** There is memory again. */
  resume(): void;
  /** Writes to no memory from then on. After the end, nothing. */
  destroy(): void;
}

interface Run {
  readonly memory: ArrayBufferLike;
  readonly from: number;
  to: number;
}

/**
 * Where the bytes of a body go, and where its reader has them from. Pieces of memory are filled one after another, each to its end, by one inlet or by
 * some in turn; how far they may be ahead of the reader is for `into` to say.
 */
export class Inflow {
  readonly #into: Into;
  readonly #runs: Run[] = [];
  #left: number;
  #piece: Uint8Array = new Uint8Array(0);
  #filled = 0;
  #asking = false;
  #inlet: Inlet | undefined;
  /** Of the inlet. */
  #over: { readonly error?: Error } | undefined;
  #waiting: (() => void) | undefined;
  #isClosed = false;

  /** @param length of the body, in bytes: more than that is refused */
  constructor(into: Into, length: number) {
    this.#into = into;
    this.#left = length;
  }

  /** Goes on with this one. */
  from(inlet: Inlet): void {
    if (this.#isClosed) {
      inlet.destroy();
      return;
    }
    this.#inlet?.destroy();
    this.#inlet = inlet;
    this.#over = undefined;
    inlet.open(this);
  }

  /** Nobody writes to the memory from then on. Who waits for bytes is told that there are no more. */
  close(): void {
    this.#isClosed = true;
    this.#runs.length = 0;
    this.#over = {};
    const inlet = this.#inlet;
    this.#inlet = undefined;
    inlet?.destroy();
    this.#wake();
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** The bytes that came next, as many as lie together; undefined where the inlet has brought all that it has, its error where it broke off. */
  async next(): Promise<Buffer | undefined> {
    while (this.#runs.length === 0) {
      if (this.#over?.error !== undefined) throw this.#over.error;
      if (this.#over !== undefined) return undefined;
      await new Promise<void>((resolve) => {
        this.#waiting = resolve;
      });
    }
    const { memory, from, to } = this.#runs.shift()!;
    return Buffer.from(memory, from, to - from);
  }

  /** For the inlet: where the next bytes go, at least one; undefined where it must wait for `resume`. */
  room(): Uint8Array | undefined {
    if (this.#asking || this.#isClosed || this.#left === 0) return undefined;
    if (this.#filled === this.#piece.length) {
      const given = this.#into();
      if (given instanceof Promise) {
        void this.#await(given);
        return undefined;
      }
      this.#take(given);
    }
    return this.#piece.subarray(this.#filled, this.#filled + this.#left);
  }

  /** For the inlet: so many bytes are where `room` said. */
  fill(bytes: number): void {
    const { buffer, byteOffset } = this.#piece;
    const from = byteOffset + this.#filled;
    this.#filled += bytes;
    this.#left -= bytes;
    const last = this.#runs.at(-1);
    if (last !== undefined && last.memory === buffer && last.to === from) last.to += bytes;
    else this.#runs.push({ memory: buffer, from, to: from + bytes });
    this.#wake();
  }

  /** For the inlet: copies what is elsewhere. @returns how many bytes there was room for */
  put(bytes: Uint8Array): number {
    let done = 0;
    while (done < bytes.length) {
      if (this.#left === 0) throw wrongAnswer('more than the bytes that it announced');
      const room = this.room();
      if (room === undefined) break;
      const part = bytes.subarray(done, done + room.length);
      room.set(part);
      this.fill(part.length);
      done += part.length;
    }
    return done;
  }

  /** For an inlet: it brings no more. */
  end(inlet: Inlet | undefined, error?: Error): void {
    if (inlet !== this.#inlet || this.#over !== undefined) return;
    this.#over = error === undefined ? {} : { error };
    this.#wake();
  }

  async #await(given: Promise<Uint8Array>): Promise<void> {
    this.#asking = true;
    try {
      const piece = await given;
      if (this.#isClosed) return;
      this.#take(piece);
      this.#asking = false;
      this.#inlet?.resume();
    } catch (error) {
      this.#inlet?.destroy();
      this.end(this.#inlet, error as Error);
    }
  }

  #take(piece: Uint8Array): void {
    // A mistake of who gives it: without end, it would be asked for again.
    if (piece.length === 0) throw new RangeError('an empty piece of memory');
    this.#piece = piece;
    this.#filled = 0;
  }

  #wake(): void {
    const wake = this.#waiting;
    this.#waiting = undefined;
    wake?.();
  }
}

/** Memory of its own for each piece, which then is the reader's: so far ahead of him, in bytes. */
const AHEAD_BYTES = 512 * 1024;
const PIECE_BYTES = 256 * 1024;

export interface OwnMemory {
  readonly into: Into;
  /** The reader has taken so many bytes. */
  taken(bytes: number): void;
}

/** @param length of all, in bytes */
export function ownMemory(length: number): OwnMemory {
  let left = length;
  let ahead = 0;
  let waiting: ((piece: Uint8Array) => void) | undefined;
  const piece = () => {
    const bytes = Math.min(PIECE_BYTES, left);
    left -= bytes;
    ahead += bytes;
    return Buffer.allocUnsafeSlow(bytes);
  };
  return {
    into: () => {
      if (ahead < AHEAD_BYTES) return piece();
      return new Promise((resolve) => {
        waiting = resolve;
      });
    },
    taken: (bytes) => {
      ahead -= bytes;
      if (ahead >= AHEAD_BYTES) return;
      waiting?.(piece());
      waiting = undefined;
    },
  };
}
