import { type ByteString, fromBuffer } from '../../byte-string.ts';

/*
 * A tar header: POSIX.1-2017, "ustar Interchange Format", and GNU's tar manual, "Basic Tar Format". 512 bytes:
 *
 *     offset length
 *       0    100    name, ends at a NUL byte if it is shorter
 *     100      8    mode       numbers are octal digits in ASCII, or, where the first byte has its top bit set,
 *     108      8    uid        the rest of the field as a big-endian number in two's complement (GNU)
 *     116      8    gid
 *     124     12    size
 *     136     12    mtime
 *     148      8    checksum: the sum of all bytes of the header, those of this field counted as spaces
 *     156      1    type
 *     157    100    name of the target of a link
 *     257      8    `ustar`, NUL, `00` (POSIX), or `ustar`, two spaces, NUL (GNU)
 *     265     64    names of user and group
 *     345    155    POSIX: what stands before the name, and a '/' between
 *     GNU's sparse files, type S:
 *     386     96    4 pairs of offset and length, 12 bytes each
 *     482      1    1 if a block with more pairs follows
 *     483     12    the file's size
 */

export const BLOCK = 512;

export interface TarHeader {
  readonly name: ByteString;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Of what follows, in bytes. */
  readonly size: number;
  /** In seconds. */
  readonly mtime: number;
  /** One character. */
  readonly type: string;
  readonly link: ByteString;
}

/** What is wrong with a header, in words that follow a colon; or the header. */
export function readHeader(block: Buffer): TarHeader | string {
  const sum = readNumber(block, 148, 8);
  if (sum !== checksum(block, false) && sum !== checksum(block, true)) return 'its checksum does not match';
  const isPosix = block.toString('latin1', 257, 263) === 'ustar\0';
  const name = readText(block, 0, 100);
  const before = isPosix ? readText(block, 345, 155) : '';
  const numbers = {
    mode: readNumber(block, 100, 8),
    uid: readNumber(block, 108, 8),
    gid: readNumber(block, 116, 8),
    size: readNumber(block, 124, 12),
    mtime: readNumber(block, 136, 12),
  };
  for (const [field, value] of Object.entries(numbers))
    if (value === undefined || !Number.isSafeInteger(value)) return `its ${field} is no number`;
  if (numbers.size! < 0) return 'its size is negative';
  return {
    ...(numbers as { [field in keyof typeof numbers]: number }),
    name: (before === '' ? name : `${before}/${name}`) as ByteString,
    type: block[156] === 0 ? '0' : String.fromCharCode(block[156]!),
    link: readText(block, 157, 100),
  };
}

export function isZero(block: Buffer): boolean {
  for (let i = 0; i < block.length; i++) if (block[i] !== 0) return false;
  return true;
}

/** A number of a field; undefined where it is none. An empty field is 0. */
export function readNumber(block: Buffer, offset: number, length: number): number | undefined {
  if (block[offset]! & 0x80) {
    const first = block[offset]!;
    // The sign is the bit below the mark.
    let value = first & 0x40 ? (first & 0x7f) - 0x80 : first & 0x7f;
    for (let i = 1; i < length; i++) value = value * 256 + block[offset + i]!;
    return value;
  }
  const text = block
    .toString('latin1', offset, offset + length)
    .replace(/[\0 ]+$/, '')
    .trimStart();
  const end = text.search(/[\0 ]/);
  const digits = end < 0 ? text : text.slice(0, end);
  if (digits === '') return 0;
  return /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : undefined;
}

function readText(block: Buffer, offset: number, length: number): ByteString {
  const field = block.subarray(offset, offset + length);
  const end = field.indexOf(0);
  return fromBuffer(end < 0 ? field : field.subarray(0, end));
}

/** Old programs summed signed bytes. */
function checksum(block: Buffer, signed: boolean): number {
  let sum = 8 * 0x20;
  for (let i = 0; i < BLOCK; i++) {
    if (i >= 148 && i < 156) continue;
    const byte = block[i]!;
    sum += signed && byte > 127 ? byte - 256 : byte;
  }
  return sum;
}
