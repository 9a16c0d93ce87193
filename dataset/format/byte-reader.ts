import { DIGEST_BYTES, type Digest } from '../digest.ts';
import { CorruptError } from '../errors.ts';

/**
 * Reads what `ByteWriter` wrote, and trusts none of it: whatever does not fit is a CorruptError that names the object and the
 * place. `name` is the object as messages call it: `segment 3f2a…`.
 */
export class ByteReader {
  readonly name: string;
  readonly buffer: Buffer;
  /** Where the next value starts, in bytes from the buffer's start. */
  position: number;
  readonly end: number;

  constructor(name: string, buffer: Buffer, start = 0, end = buffer.length) {
    this.name = name;
    this.buffer = buffer;
    this.position = start;
    this.end = end;
  }

  get remaining(): number {
    return this.end - this.position;
  }

  u8(): number {
    if (this.position >= this.end) this.#short();
    return this.buffer[this.position++]!;
  }

  u32(): number {
    if (this.remaining < 4) this.#short();
    const value = this.buffer.readUInt32LE(this.position);
    this.position += 4;
    return value;
  }

  varint(): number {
    const { buffer, end } = this;
    let at = this.position;
    if (at >= end) this.#short();
    let byte = buffer[at++]!;
    if (byte < 0x80) {
      this.position = at;
      return byte;
    }
    let value = byte & 0x7f;
    let factor = 128;
    do {
      if (at >= end) this.#short();
      byte = buffer[at++]!;
      value += (byte & 0x7f) * factor;
      factor *= 128;
    } while (byte >= 0x80 && factor < 0x80_0000_0000_0000);
    if (byte >= 0x80 || value > Number.MAX_SAFE_INTEGER) this.fail('a number is too large');
    if (byte === 0) this.fail('a number is written longer than it needs to be');
    this.position = at;
    return value;
  }

  signed(): number {
    const value = this.varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  /** A count of things that take at least `size` bytes each of what is left: a bound on what a bad count can allocate. */
  count(size: number): number {
    const value = this.varint();
    if (value * size > this.remaining) this.fail(`it tells of ${value} items in ${this.remaining} bytes`);
    return value;
  }

  digest(): Digest {
    return this.hex(DIGEST_BYTES) as Digest;
  }

  hex(length: number): string {
    const start = this.skip(length);
    return this.buffer.toString('hex', start, this.position);
  }

  latin1(length: number): string {
    const start = this.skip(length);
    return this.buffer.toString('latin1', start, this.position);
  }

  /** A view of the next `length` bytes. */
  bytes(length: number): Buffer {
    const start = this.skip(length);
    return this.buffer.subarray(start, this.position);
  }

  /** Passes over `length` bytes. @returns where they start */
  skip(length: number): number {
    const start = this.position;
    if (length > this.end - start) this.#short();
    this.position = start + length;
    return start;
  }

  /** To be called when everything expected was read. */
  finish(): void {
    if (this.position !== this.end) this.fail(`${this.remaining} bytes follow its end`);
  }

  fail(fault: string, cause?: unknown): never {
    throw new CorruptError(`${this.name} is damaged: ${fault} (at byte ${this.position})`, {
      cause,
      facts: { object: this.name, fault, offset: this.position },
    });
  }

  #short(): never {
    this.fail('it ends too early');
  }
}
