import { DIGEST_BYTES, type Digest, sha256 } from '../digest.ts';
import { InvalidError } from '../errors.ts';
import { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';
import type { ChunkCodec, ChunkLocation } from './locations.ts';

/*
 * A pack: its index, then the chunks without anything between them.
 *
 *     4        `LPAK`
 *     u8       1, the format
 *     u32      number of chunks, at least 1
 *     for each chunk, in their order:
 *       32       its SHA-256
 *       u32      stored length in bytes, at least 1
 *       u32      length of the chunk itself, at least 1
 *       u8       bit 0: stored as one zstd frame; bit 1: it is a whole file
 *     the chunks
 *
 * A pack's id is the SHA-256 of all before the chunks. The chunks are checked one by one.
 */

export interface PackedChunk {
  readonly id: Digest;
  readonly stored: number;
  readonly length: number;
  readonly codec: ChunkCodec;
  /** Whether the chunk is all of some file, so that its id is a content id too. */
  readonly wholeFile: boolean;
}

export interface PackIndexEntry extends PackedChunk {
  /** Of its first stored byte in the pack object. */
  readonly offset: number;
}

/** The bytes before the first row of the index, and those of a row. */
export const PACK_HEAD_BYTES = 9;
export const PACK_ROW_BYTES = DIGEST_BYTES + 9;
/** The most chunks of a pack. */
export const PACK_CHUNKS_LIMIT = 1024 * 1024;
/** The longest chunk in bytes, stored or itself. */
export const CHUNK_LIMIT = 64 * 1024 * 1024;

const MAGIC = 0x4b41_504c; // 'LPAK'
const FORMAT = 1;
const IS_ZSTD = 1;
const IS_WHOLE_FILE = 2;

/** Bytes before the chunks of a pack of `count`. */
export function packIndexBytes(count: number): number {
  return PACK_HEAD_BYTES + count * PACK_ROW_BYTES;
}

export function encodePackIndex(chunks: readonly PackedChunk[]): { readonly id: Digest; readonly head: Buffer } {
  if (chunks.length === 0 || chunks.length > PACK_CHUNKS_LIMIT)
    throw new InvalidError(`a pack cannot have ${chunks.length} chunks`);
  const out = new ByteWriter(packIndexBytes(chunks.length));
  out.u32(MAGIC);
  out.u8(FORMAT);
  out.u32(chunks.length);
  for (const chunk of chunks) {
    const fault = chunkFault(chunk);
    if (fault !== undefined) throw new InvalidError(`chunk ${chunk.id} cannot be packed: ${fault}`);
    out.digest(chunk.id);
    out.u32(chunk.stored);
    out.u32(chunk.length);
    out.u8((chunk.codec === 'zstd' ? IS_ZSTD : 0) | (chunk.wholeFile ? IS_WHOLE_FILE : 0));
  }
  return { id: sha256(out.view()), head: out.view() };
}

/**
 * How many bytes the index has, told by the pack's first `PACK_HEAD_BYTES`.
 * @param size of the whole object, in bytes: a bound on what a bad count can make the reader read
 */
export function packIndexLength(pack: Digest, head: Buffer, size: number): number {
  const reader: ByteReader = new ByteReader(packName(pack), head);
  if (reader.u32() !== MAGIC) reader.fail('it does not begin as a pack');
  const format = reader.u8();
  if (format !== FORMAT) reader.fail(`it has the format ${format}, and this version of Larder knows only ${FORMAT}`);
  const count = reader.u32();
  if (count === 0 || count > PACK_CHUNKS_LIMIT) reader.fail(`it tells of ${count} chunks`);
  const length = packIndexBytes(count);
  if (length > size) reader.fail(`it tells of ${count} chunks in ${size} bytes`);
  return length;
}

/**
 * The index in a pack's first bytes, checked against the pack's id and the object's size.
 * @param head exactly the bytes before the chunks
 */
export function decodePackIndex(pack: Digest, head: Buffer, size: number): PackIndexEntry[] {
  const reader: ByteReader = new ByteReader(packName(pack), head);
  const length = packIndexLength(pack, head, size);
  if (length !== head.length) reader.fail(`its index has ${head.length} bytes instead of ${length}`);
  const actual = sha256(head);
  if (actual !== pack) reader.fail(`the digest of its index is ${actual}`);
  reader.position = PACK_HEAD_BYTES;
  const entries: PackIndexEntry[] = [];
  let offset = length;
  while (reader.remaining > 0) {
    const id = reader.digest();
    const stored = reader.u32();
    const chunkLength = reader.u32();
    const flags = reader.u8();
    if (flags > (IS_ZSTD | IS_WHOLE_FILE)) reader.fail(`chunk ${id} has the flags ${flags}`);
    const codec: ChunkCodec = (flags & IS_ZSTD) === 0 ? 'raw' : 'zstd';
    const entry = { id, stored, length: chunkLength, codec, wholeFile: (flags & IS_WHOLE_FILE) !== 0, offset };
    const fault = chunkFault(entry);
    if (fault !== undefined) reader.fail(`chunk ${id}: ${fault}`);
    entries.push(entry);
    offset += stored;
  }
  if (offset !== size) reader.fail(`it has ${size} bytes, and its index tells of ${offset}`);
  return entries;
}

/** Where the chunks of a pack lie. */
export function locationsIn(pack: Digest, entries: readonly PackIndexEntry[]): ChunkLocation[] {
  return entries.map(({ id, offset, stored, length, codec }) => ({ id, pack, offset, stored, length, codec }));
}

/** One line a chunk, for tests and people. */
export function formatPackIndex(entries: readonly PackIndexEntry[]): string {
  return entries
    .map(({ id, offset, stored, length, codec, wholeFile }) => {
      return `${id} ${offset} ${stored} ${length} ${codec} ${wholeFile ? 'file' : 'part'}\n`;
    })
    .join('');
}

/** A pack as messages call it. */
export function packName(pack: Digest): string {
  return `pack ${pack}`;
}

function chunkFault({ stored, length, codec }: PackedChunk): string | undefined {
  if (!(length >= 1 && length <= CHUNK_LIMIT)) return `it has ${length} bytes`;
  if (codec === 'raw' ? stored !== length : !(stored >= 1 && stored < length))
    return `its ${length} bytes are stored in ${stored} (${codec})`;
  return undefined;
}
