import type { Random } from './random.ts';

/** Copies of `bytes` with one bit flipped: every bit of a small object, `most` of a larger one. */
export function* flippedBits(random: Random, bytes: Buffer, most = 4000): Generator<{ damaged: Buffer; at: string }> {
  const bits = bytes.length * 8;
  for (let i = 0; i < Math.min(bits, most); i++) {
    const bit = bits <= most ? i : random.below(bits);
    const damaged = Buffer.from(bytes);
    damaged[bit >>> 3]! ^= 1 << (bit & 7);
    yield { damaged, at: `byte ${bit >>> 3}, bit ${bit & 7}` };
  }
}

/** Beginnings of `bytes`: every one of a small object, `most` of a larger one. */
export function* beginnings(random: Random, bytes: Buffer, most = 1000): Generator<Buffer> {
  for (let i = 0; i < Math.min(bytes.length, most); i++)
    yield bytes.subarray(0, bytes.length <= most ? i : random.below(bytes.length));
}
