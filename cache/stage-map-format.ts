import { type Digest, digestFromBytes, digestToBytes } from '../dataset/digest.ts';

/*
 * The stage map's file, integers little-endian (N keys, S segments, B bits):
 *
 *     offset         bytes      what
 *     0              8          "LARDERSM"
 *     8              4          format: 2
 *     12             4          N
 *     16             4          S
 *     20             4          B
 *     24             32         the manifest's root digest
 *     56             8          how many distinct contents
 *     64             8          their sizes together, in bytes
 *     72             32         SHA-256 of the keys
 *     104            32         SHA-256 of bytes 0 to 103, the segments and the runs
 *     136            12·N       keys: bytes 0 to 7 of a content id, then the index of a segment; sorted
 *     136+12·N       32·S       segment digests, in the manifest's order
 *     …              4·(2^B+1)  runs: how many keys there are whose first B bits are less than 0, 1, … 2^B
 */
export const DIGEST_BYTES = 32;
export const HEADER_BYTES = 136;
export const KEY_BYTES = 12;
const MAGIC = 'LARDERSM';
const FORMAT = 2;

/** Keys of a run, on average, at most. */
const RUN_KEYS = 256;
const MOST_BITS = 24;

export interface StageMapHeader {
  readonly keys: number;
  readonly segments: number;
  /** The first so many bits of a key tell its run. */
  readonly bits: number;
  readonly root: Digest;
  readonly objects: number;
  readonly objectBytes: number;
  readonly keysChecksum: Buffer;
  /** Where the segments' names begin. */
  readonly namesAt: number;
  readonly fileBytes: number;
}

export function bitsFor(keys: number): number {
  return Math.min(MOST_BITS, Math.max(0, Math.ceil(Math.log2(Math.max(1, keys / RUN_KEYS)))));
}

/** The header's bytes but for the last 32, the checksum of what is in memory. */
export function headerBytes(header: Omit<StageMapHeader, 'namesAt' | 'fileBytes'>): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES - DIGEST_BYTES);
  bytes.write(MAGIC, 0, 'latin1');
  bytes.writeUInt32LE(FORMAT, 8);
  bytes.writeUInt32LE(header.keys, 12);
  bytes.writeUInt32LE(header.segments, 16);
  bytes.writeUInt32LE(header.bits, 20);
  bytes.set(digestToBytes(header.root), 24);
  bytes.writeBigUInt64LE(BigInt(header.objects), 56);
  bytes.writeBigUInt64LE(BigInt(header.objectBytes), 64);
  bytes.set(header.keysChecksum, 72);
  return bytes;
}

/** @param damaged makes the error for what is wrong with it */
export function readHeader(bytes: Buffer, damaged: (what: string) => Error): StageMapHeader {
  if (bytes.toString('latin1', 0, 8) !== MAGIC) throw damaged('it does not begin as a stage map does');
  const format = bytes.readUInt32LE(8);
  if (format !== FORMAT) throw damaged(`its format is ${format}`);
  const keys = bytes.readUInt32LE(12);
  const segments = bytes.readUInt32LE(16);
  const bits = bytes.readUInt32LE(20);
  if (bits > MOST_BITS) throw damaged(`its runs have ${bits} bits`);
  const namesAt = HEADER_BYTES + keys * KEY_BYTES;
  return {
    keys,
    segments,
    bits,
    root: digestFromBytes(bytes, 24),
    objects: Number(bytes.readBigUInt64LE(56)),
    objectBytes: Number(bytes.readBigUInt64LE(64)),
    keysChecksum: bytes.subarray(72, 104),
    namesAt,
    fileBytes: namesAt + segments * DIGEST_BYTES + 4 * (2 ** bits + 1),
  };
}

/** Bytes 0 to 3 of an id as a big-endian number. */
export function highOf(id: string): number {
  return hexNumber(id, 0);
}

/** Bytes 4 to 7. */
export function lowOf(id: string): number {
  return hexNumber(id, 8);
}

/** Eight hexadecimal digits as a number, without a substring of their own. */
function hexNumber(id: string, start: number): number {
  let value = 0;
  for (let at = start; at < start + 8; at += 1) {
    const code = id.charCodeAt(at);
    value = (value << 4) | (code < 58 ? code - 48 : code - 87);
  }
  return value >>> 0;
}
