import { DIGEST_BYTES, type Digest } from '../digest.ts';

/** A growing buffer with the few shapes that the formats are made of. Numbers are little-endian. */
export class ByteWriter {
  #buffer: Buffer;
  #length = 0;

  constructor(capacity = 4096) {
    this.#buffer = Buffer.allocUnsafeSlow(capacity);
  }

  get length(): number {
    return this.#length;
  }

  u8(value: number): void {
    this.#reserve(1);
    this.#buffer[this.#length++] = value;
  }

  u32(value: number): void {
    this.#reserve(4);
    this.#length = this.#buffer.writeUInt32LE(value, this.#length);
  }

  /** LEB128: seven bits a byte, low bits first, the top bit set on all but the last. A whole number from 0 to 2^53 - 1. */
  varint(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0)
      throw new RangeError(`${value} is no whole number from 0 to 2^53 - 1`);
    this.#reserve(8);
    const buffer = this.#buffer;
    let rest = value;
    while (rest >= 0x8000_0000) {
      buffer[this.#length++] = (rest % 128) | 0x80;
      rest = Math.floor(rest / 128);
    }
    while (rest >= 0x80) {
      buffer[this.#length++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    buffer[this.#length++] = rest;
  }

  /** A varint of `2n` for n from 0 up, `-2n - 1` below: whole numbers from -2^52 to 2^52 - 1. */
  signed(value: number): void {
    this.varint(value >= 0 ? value * 2 : -value * 2 - 1);
  }

  /** The code units of `value`, each of which is one byte. */
  latin1(value: string): void {
    this.#reserve(value.length);
    this.#length += this.#buffer.write(value, this.#length, 'latin1');
  }

  utf8(value: string): void {
    this.#reserve(value.length * 3);
    this.#length += this.#buffer.write(value, this.#length, 'utf8');
  }

  digest(value: Digest): void {
    this.#reserve(DIGEST_BYTES);
    if (this.#buffer.write(value, this.#length, DIGEST_BYTES, 'hex') !== DIGEST_BYTES)
      throw new RangeError(`${value} is no digest`);
    this.#length += DIGEST_BYTES;
  }

  bytes(value: Uint8Array): void {
    this.#reserve(value.length);
    this.#buffer.set(value, this.#length);
    this.#length += value.length;
  }

  /** Everything written, without a copy: written over once the writer is used again. */
  view(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  clear(): void {
    this.#length = 0;
  }

  #reserve(count: number): void {
    const needed = this.#length + count;
    if (needed <= this.#buffer.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.length * 2));
    this.#buffer.copy(grown, 0, 0, this.#length);
    this.#buffer = grown;
  }
}
