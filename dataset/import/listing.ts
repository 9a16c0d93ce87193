import { zstdCompress, zstdDecompress } from '../../system/calls/zstd.ts';
import type { ByteString } from '../byte-string.ts';

/**
 * A run of a directory's entries in byte order of their names, with what statx(2) told of each: the form in which an import carries
 * them between threads and keeps them for the next import. Numbers lie in columns, which compress well and need no objects.
 */
export interface Listing {
  readonly count: number;
  /** `COLUMNS` columns of `count` numbers each, one column after another. */
  readonly words: Uint32Array;
  /** The names, each with a zero byte behind it. */
  readonly names: Uint8Array;
}

/** The columns. 64-bit numbers take two: the lower half first. */
export const COLUMN = {
  mode: 0,
  nlink: 1,
  uid: 2,
  gid: 3,
  inode: 4,
  size: 6,
  mtime: 8,
  mtimeNanos: 10,
  ctime: 11,
  ctimeNanos: 13,
  deviceMajor: 14,
  deviceMinor: 15,
} as const;
export const COLUMNS = 16;
/** Columns before this one tell whether a file is still the same; devices are numbered anew at every boot. */
export const COMPARED_COLUMNS = 14;

export const TYPE_MASK = 0o170000;
export const TYPE = {
  fifo: 0o010000,
  character: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
} as const;

/** No clock shows this many nanoseconds: a kept entry with it never equals a file, which is then read again. */
export const NEVER = 0xffffffff;

/** A 64-bit number of two columns, exact up to 2^53. */
export function wide(words: Uint32Array, index: number, stride: number): number {
  return words[index]! + words[index + stride]! * 0x1_0000_0000;
}

/** The same, signed: seconds before 1970 are negative. */
export function signedWide(words: Uint32Array, index: number, stride: number): number {
  return words[index]! + (words[index + stride]! | 0) * 0x1_0000_0000;
}

/** The names as strings of bytes. */
export function namesOf(listing: Listing): ByteString[] {
  const { names, count } = listing;
  const text = Buffer.from(names.buffer, names.byteOffset, names.byteLength);
  const result = new Array<ByteString>(count);
  let at = 0;
  for (let i = 0; i < count; i++) {
    const end = text.indexOf(0, at);
    result[i] = text.toString('latin1', at, end) as ByteString;
    at = end + 1;
  }
  return result;
}

/** The names with a zero byte behind each, from strings of bytes. */
export function packNames(names: readonly ByteString[]): Uint8Array<ArrayBuffer> {
  let length = 0;
  for (const name of names) length += name.length + 1;
  const packed = new Uint8Array(length);
  const view = Buffer.from(packed.buffer);
  let at = 0;
  for (const name of names) {
    view.write(name, at, 'latin1');
    at += name.length + 1;
  }
  return packed;
}

// The kept form: format u32, count u32, bytes of names u32; then one zstd frame of the columns and the names. Little-endian, as
// every machine that Larder runs on: it never leaves the machine.
const FORMAT = 1;
const HEADER = 12;

/** The kept form of a listing. */
export function encodeListing(listing: Listing): Buffer {
  const columns = new Uint8Array(listing.words.buffer, listing.words.byteOffset, COLUMNS * listing.count * 4);
  const raw = Buffer.concat([columns, listing.names]);
  const target = Buffer.allocUnsafe(HEADER + raw.length + (raw.length >> 6) + 256);
  const length = zstdCompress(target.subarray(HEADER), raw, 1);
  if (length < 0) throw new Error('a listing grew when it was compressed');
  target.writeUInt32LE(FORMAT, 0);
  target.writeUInt32LE(listing.count, 4);
  target.writeUInt32LE(listing.names.length, 8);
  return target.subarray(0, HEADER + length);
}

/** The listing of a kept form; undefined where it is damaged or of another format, which only costs reading the files again. */
export function decodeListing(kept: Uint8Array): Listing | undefined {
  const header = Buffer.from(kept.buffer, kept.byteOffset, kept.byteLength);
  if (header.length < HEADER || header.readUInt32LE(0) !== FORMAT) return undefined;
  const count = header.readUInt32LE(4);
  const named = header.readUInt32LE(8);
  const columns = COLUMNS * count * 4;
  // Beyond any listing that was kept: do not let a flipped bit ask for memory.
  if (columns + named > 1 << 28) return undefined;
  const raw = new Uint8Array(columns + named);
  if (raw.length > 0 && zstdDecompress(raw, header.subarray(HEADER)) !== raw.length) return undefined;
  const names = raw.subarray(columns);
  let zeros = 0;
  for (let i = 0; i < names.length; i++) if (names[i] === 0) zeros++;
  if (zeros !== count || (count > 0 && names[names.length - 1] !== 0)) return undefined;
  return { count, words: new Uint32Array(raw.buffer, 0, COLUMNS * count), names };
}
