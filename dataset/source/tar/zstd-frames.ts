import type { PullBytes } from './pull-bytes.ts';

/*
 * The outline of zstd frames (RFC 8878): Node decompresses one, and a stream may have several.
 *
 *     u32      0xfd2fb528, little-endian; or 0x184d2a50 to 0x184d2a5f, then a u32, the length of what is to be skipped
 *     u8       bits 6-7: length of the content size's field (0: 0, or 1 with bit 5; 1: 2; 2: 4; 3: 8); bit 5: no window's field;
 *              bit 2: a checksum of 4 bytes ends the frame; bits 0-1: length of the dictionary id (0, 1, 2, 4)
 *     u8       the window's, unless bit 5 is set; then dictionary id and content size
 *     blocks:  u24, little-endian: bit 0: the last; bits 1-2: 1 for one byte repeated; bits 3-23: length; then as many bytes, or that one
 */

const MAGIC = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;
const UNIT = 1 << 20;

/** One frame's bytes at a time; each must be read to its end before the next is asked for. A stream that ends inside of one ends so. */
export async function* zstdFrames(bytes: PullBytes): AsyncGenerator<AsyncGenerator<Buffer>> {
  for (;;) {
    const magic = Buffer.from(await bytes.exactly(4));
    if (magic.length === 0) return;
    const number = magic.length === 4 ? magic.readUInt32LE() : 0;
    if ((number & 0xfffffff0) >>> 0 !== SKIPPABLE) {
      // What is no frame makes the decompressor say so.
      yield number === MAGIC ? frame(magic, bytes) : one(magic);
      if (number !== MAGIC) return;
      continue;
    }
    const length = Buffer.from(await bytes.exactly(4));
    if (length.length < 4 || !(await bytes.skip(length.readUInt32LE()))) {
      yield one(magic);
      return;
    }
  }
}

async function* one(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

async function* frame(magic: Buffer, bytes: PullBytes): AsyncGenerator<Buffer> {
  yield magic;
  const descriptor = Buffer.from(await bytes.exactly(1));
  if (descriptor.length === 0) return;
  yield descriptor;
  const flags = descriptor[0]!;
  const single = (flags >> 5) & 1;
  const sizeField = [single, 2, 4, 8][flags >> 6]!;
  const idField = [0, 1, 2, 4][flags & 3]!;
  const rest = Buffer.from(await bytes.exactly(1 - single + idField + sizeField));
  yield rest;
  for (let last = false; !last; ) {
    const head = Buffer.from(await bytes.exactly(3));
    yield head;
    if (head.length < 3) return;
    const word = head.readUIntLE(0, 3);
    last = (word & 1) === 1;
    const isRepeated = ((word >> 1) & 3) === 1;
    for (let left = isRepeated ? 1 : word >> 3; left > 0; ) {
      const piece = await bytes.some(Math.min(left, UNIT));
      if (piece === undefined) return;
      left -= piece.length;
      yield piece;
    }
  }
  if (flags & 4) yield Buffer.from(await bytes.exactly(4));
}
