/*
 * A ring of memory that two threads share: one puts bytes in, the other takes them out. How far each has come is in that memory too, so that
 * neither tells the other anything while both have something to do; only who has gone to sleep is woken, by whatever way there is.
 */

/** The positions lie behind the bytes, each as a number of 32 bits that begins anew when it overflows: differences stay right. */
const WRITTEN = 0;
const CONSUMED = 1;
const WRITER_SLEEPS = 2;
const READER_SLEEPS = 3;
const CONTROL_BYTES = 64;

/** Pieces that a ring is given out in. */
const PIECES = 4;

/** @param bytes a power of two */
export function makeRing(bytes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(bytes + CONTROL_BYTES);
}

class Ring {
  readonly memory: SharedArrayBuffer;
  readonly size: number;
  readonly positions: Int32Array<SharedArrayBuffer>;

  constructor(memory: SharedArrayBuffer) {
    this.memory = memory;
    this.size = memory.byteLength - CONTROL_BYTES;
    this.positions = new Int32Array(memory, this.size, CONTROL_BYTES / 4);
  }

  get piece(): number {
    return this.size / PIECES;
  }

  position(which: typeof WRITTEN | typeof CONSUMED): number {
    return Atomics.load(this.positions, which) >>> 0;
  }
}

/** The one end. One for each use of the memory. */
export class RingWriter {
  readonly #ring: Ring;
  readonly #wakeReader: () => void;
  /** Up to where pieces were given out. */
  #given = 0;
  #written = 0;
  /** What is left of a piece that bytes are copied to. */
  #copying: Uint8Array<SharedArrayBuffer> | undefined;
  #waiting: PromiseWithResolvers<Uint8Array<SharedArrayBuffer>> | undefined;
  #fault: Error | undefined;

  constructor(memory: SharedArrayBuffer, wakeReader: () => void) {
    this.#ring = new Ring(memory);
    this.#wakeReader = wakeReader;
  }

  /** The next free piece, to be filled to its end and then told to the reader by `put` with views of it. */
  readonly into = (): Uint8Array<SharedArrayBuffer> | Promise<Uint8Array<SharedArrayBuffer>> => {
    const piece = this.#next();
    if (piece !== undefined) return piece;
    const waiting = Promise.withResolvers<Uint8Array<SharedArrayBuffer>>();
    this.#waiting = waiting;
    this.#sleep();
    return waiting.promise;
  };

  /** Gives bytes to the reader: views of pieces as they are, others by copying them. */
  async put(block: Uint8Array): Promise<void> {
    if (block.buffer === this.#ring.memory) {
      if (block.byteOffset !== this.#written % this.#ring.size)
        throw new Error('bytes of a ring came out of their order');
      this.#publish(block.length);
      return;
    }
    if (this.#copying === undefined && this.#given !== this.#written)
      throw new Error('bytes came from elsewhere although a piece of the ring was taken for them');
    for (let at = 0; at < block.length; ) {
      if (this.#copying === undefined || this.#copying.length === 0) this.#copying = await this.into();
      const part = block.subarray(at, at + this.#copying.length);
      this.#copying.set(part);
      this.#copying = this.#copying.subarray(part.length);
      at += part.length;
      this.#publish(part.length);
    }
  }

  /** The reader says that there may be room again. */
  wake(): void {
    if (this.#waiting === undefined) return;
    const piece = this.#next();
    if (piece === undefined) this.#sleep();
    else {
      const { resolve } = this.#waiting;
      this.#waiting = undefined;
      resolve(piece);
    }
  }

  /** Who waits for room gets this error. */
  stop(error: Error): void {
    this.#fault = error;
    this.#waiting?.reject(error);
    this.#waiting = undefined;
  }

  #next(): Uint8Array<SharedArrayBuffer> | undefined {
    if (this.#fault !== undefined) throw this.#fault;
    const { memory, size, piece } = this.#ring;
    const used = (this.#given - this.#ring.position(CONSUMED)) >>> 0;
    if (size - used < piece) return undefined;
    const from = this.#given % size;
    this.#given = (this.#given + piece) >>> 0;
    return new Uint8Array(memory, from, piece);
  }

  /** The reader may have made room before he could see that somebody waits for it. */
  #sleep(): void {
    Atomics.store(this.#ring.positions, WRITER_SLEEPS, 1);
    const used = (this.#given - this.#ring.position(CONSUMED)) >>> 0;
    if (this.#ring.size - used < this.#ring.piece) return;
    Atomics.store(this.#ring.positions, WRITER_SLEEPS, 0);
    this.wake();
  }

  #publish(bytes: number): void {
    this.#written = (this.#written + bytes) >>> 0;
    Atomics.store(this.#ring.positions, WRITTEN, this.#written | 0);
    if (Atomics.exchange(this.#ring.positions, READER_SLEEPS, 0) === 1) this.#wakeReader();
  }
}

/** The other end. One for each use of the memory, made before the writer's. */
export class RingReader {
  readonly #ring: Ring;
  readonly #wakeWriter: () => void;

  constructor(memory: SharedArrayBuffer, wakeWriter: () => void) {
    this.#ring = new Ring(memory);
    this.#wakeWriter = wakeWriter;
    this.#ring.positions.fill(0);
  }

  /** The bytes that come next, as a view, as many as lie together in a piece; undefined where there are none. */
  next(): Buffer | undefined {
    const consumed = this.#ring.position(CONSUMED);
    const filled = (this.#ring.position(WRITTEN) - consumed) >>> 0;
    if (filled === 0) return undefined;
    const { memory, size, piece } = this.#ring;
    const from = consumed % size;
    return Buffer.from(memory, from, Math.min(filled, piece - (from % piece)));
  }

  /** What `next` gave is not used any more. */
  consumed(bytes: number): void {
    const { positions, size } = this.#ring;
    const consumed = (Atomics.add(positions, CONSUMED, bytes) + bytes) >>> 0;
    if (Atomics.load(positions, WRITER_SLEEPS) === 0) return;
    // Not for each piece: a writer that is woken reads as much as there is room for.
    if ((this.#ring.position(WRITTEN) - consumed) >>> 0 > size / 2) return;
    if (Atomics.exchange(positions, WRITER_SLEEPS, 0) === 1) this.#wakeWriter();
  }

  /** @returns whether the writer will wake the reader: else there are bytes already */
  sleep(): boolean {
    const { positions } = this.#ring;
    Atomics.store(positions, READER_SLEEPS, 1);
    if (this.#ring.position(WRITTEN) === this.#ring.position(CONSUMED)) return true;
    Atomics.store(positions, READER_SLEEPS, 0);
    return false;
  }
}
