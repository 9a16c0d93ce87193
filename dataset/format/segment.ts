import { zstdCompress, zstdDecompress } from '../../system/calls/zstd.ts';
import { type Digest, sha256, shortId } from '../digest.ts';
import type { Entry } from '../entry.ts';
import { CorruptError, InvalidError } from '../errors.ts';
import { ByteReader } from './byte-reader.ts';
import { decodeIndexNode, type IndexNode } from './index-node.ts';
import { decodeLeaf } from './leaf.ts';

/*
 * The object of a segment, leaf or index:
 *
 *     4        `LSEG`
 *     u8       1, the format
 *     u8       codec of what follows the head: 0 as it is, 1 one zstd frame
 *     u32      length of the encoding, uncompressed
 *     u32      length of what follows
 *     the encoding (leaf.ts, index-node.ts), up to the end
 *
 * Its name is the SHA-256 of the encoding, uncompressed: another version of zstd changes no name.
 */

const MAGIC = 0x4745_534c; // 'LSEG'
const FORMAT = 1;
const RAW = 0;
const ZSTD = 1;
const HEAD_BYTES = 14;

/** The longest encoding, in bytes: a file of some seven million chunks. */
export const SEGMENT_LIMIT = 256 * 1024 * 1024;

const LEVEL = 1;

/** Where frames are made before they are copied at their length: room for nearly every segment. */
const SCRATCH = 512 * 1024;
let scratch = Buffer.allocUnsafeSlow(SCRATCH);

/** An encoding made ready to be stored. */
export interface SealedSegment {
  readonly digest: Digest;
  readonly object: readonly [head: Buffer, payload: Buffer];
}

export function sealSegment(raw: Buffer): SealedSegment {
  if (raw.length > SEGMENT_LIMIT)
    throw new InvalidError(`a segment of ${raw.length} bytes cannot be stored: a file has too many chunks`);
  const packed = compress(raw);
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32LE(MAGIC, 0);
  head[4] = FORMAT;
  head[5] = packed === undefined ? RAW : ZSTD;
  head.writeUInt32LE(raw.length, 6);
  const payload = packed ?? raw;
  head.writeUInt32LE(payload.length, 10);
  return { digest: sha256(raw), object: [head, payload] };
}

/** The encoding in a segment's object, checked against its name. */
export function unsealSegment(digest: Digest, object: Buffer): Buffer {
  const reader: ByteReader = new ByteReader(segmentName(digest), object);
  if (reader.u32() !== MAGIC) reader.fail('it does not begin as a segment');
  const format = reader.u8();
  if (format !== FORMAT) reader.fail(`it has the format ${format}, and this version of Larder knows only ${FORMAT}`);
  const codec = reader.u8();
  const length = reader.u32();
  if (length > SEGMENT_LIMIT) reader.fail(`it tells of ${length} bytes`);
  const payload = reader.bytes(reader.u32());
  reader.finish();
  if (codec !== RAW && codec !== ZSTD) reader.fail(`it has the codec ${codec}`);
  const raw = codec === ZSTD ? decompress(reader, payload, length) : payload;
  if (raw.length !== length) reader.fail(`it tells of ${length} bytes and has ${raw.length}`);
  const actual = sha256(raw);
  if (actual !== digest) reader.fail(`its digest is ${shortId(actual)}`);
  return raw;
}

/** A leaf's entries or an index node, from the object's bytes. */
export function decodeSegment(digest: Digest, object: Buffer): readonly Entry[] | IndexNode {
  const raw = unsealSegment(digest, object);
  const name = segmentName(digest);
  if (raw.length === 0) throw new CorruptError(`${name} is damaged: it is empty`, { facts: { object: name } });
  return raw[0] === 0 ? decodeLeaf(name, raw) : decodeIndexNode(name, raw);
}

/** A segment as messages call it. */
export function segmentName(digest: Digest): string {
  return `segment ${digest}`;
}

/** One frame that is shorter than `raw`; undefined where there is none. */
function compress(raw: Buffer): Buffer | undefined {
  if (scratch.length < raw.length) scratch = Buffer.allocUnsafeSlow(raw.length);
  const length = zstdCompress(scratch.subarray(0, Math.max(0, raw.length - 1)), raw, LEVEL);
  const packed = length < 0 ? undefined : Buffer.from(scratch.subarray(0, length));
  if (scratch.length > SCRATCH) scratch = Buffer.allocUnsafeSlow(SCRATCH);
  return packed;
}

function decompress(reader: ByteReader, payload: Buffer, length: number): Buffer {
  const raw = Buffer.allocUnsafeSlow(length);
  const actual = zstdDecompress(raw, payload);
  if (actual < 0) reader.fail('its zstd frame cannot be read');
  return actual === length ? raw : raw.subarray(0, actual);
}
