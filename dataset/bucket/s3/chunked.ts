import { wrongAnswer } from './failure.ts';

/** The longest line that tells a chunk's length, and all of a trailer, in bytes. */
const LINE_LIMIT = 1024;
const TRAILER_LIMIT = 16 * 1024;

const CR = 0x0d;
const LF = 0x0a;

type State = 'size' | 'extension' | 'size-end' | 'data' | 'data-cr' | 'data-lf' | 'trailer' | 'trailer-end' | 'done';

/** Takes the chunked transfer coding (RFC 9112, section 7.1) off a body that comes cut anywhere; what is none is refused with a `WrongAnswer`. */
export class ChunkedDecoder {
  #state: State = 'size';
  /** Of the chunk: read of its length, or left of its bytes. */
  #left = 0;
  #digits = 0;
  /** Of a line, or of the trailer. */
  #line = 0;
  #trailer = 0;

  /** Whether the body is at its end. */
  get done(): boolean {
    return this.#state === 'done';
  }

  /**
   * @param onData given the body's bytes, as views
   * @returns how many of the bytes belong to the body
   */
  take(bytes: Uint8Array, onData: (data: Uint8Array) => void): number {
    let at = 0;
    while (at < bytes.length && this.#state !== 'done') {
      if (this.#state === 'data') {
        const data = bytes.subarray(at, at + this.#left);
        at += data.length;
        this.#left -= data.length;
        if (this.#left === 0) this.#state = 'data-cr';
        onData(data);
      } else this.#step(bytes[at++]!);
    }
    return at;
  }

  #step(byte: number): void {
    switch (this.#state) {
      case 'size':
        this.#size(byte);
        return;
      case 'extension':
        if (++this.#line > LINE_LIMIT || byte === LF) throw refusal();
        if (byte === CR) this.#state = 'size-end';
        return;
      case 'size-end':
        if (byte !== LF) throw refusal();
        this.#state = this.#left > 0 ? 'data' : 'trailer';
        this.#digits = 0;
        this.#line = 0;
        return;
      case 'data-cr':
        if (byte !== CR) throw refusal();
        this.#state = 'data-lf';
        return;
      case 'data-lf':
        if (byte !== LF) throw refusal();
        this.#state = 'size';
        return;
      case 'trailer':
        if (++this.#trailer > TRAILER_LIMIT || byte === LF) throw refusal();
        if (byte === CR) this.#state = 'trailer-end';
        else this.#line += 1;
        return;
      case 'trailer-end':
        if (byte !== LF) throw refusal();
        this.#state = this.#line === 0 ? 'done' : 'trailer';
        this.#line = 0;
        return;
    }
  }

  #size(byte: number): void {
    const digit = hexDigit(byte);
    if (digit !== undefined) {
      // So many that it stays a whole number.
      if (++this.#digits > 12) throw refusal();
      this.#left = this.#left * 16 + digit;
      return;
    }
    if (this.#digits === 0) throw refusal();
    if (byte === CR) this.#state = 'size-end';
    else if (byte === 0x3b || byte === 0x20 || byte === 0x09) this.#state = 'extension';
    else throw refusal();
  }
}

function hexDigit(byte: number): number | undefined {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : undefined;
}

function refusal(): Error {
  return wrongAnswer('a body in chunks that are none');
}
