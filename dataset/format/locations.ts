import { DIGEST_BYTES, type Digest, sha256 } from '../digest.ts';
import { InvalidError } from '../errors.ts';
import { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';
import type { ChunkRef } from './chunk-list.ts';

/*
 * The locations of a leaf segment's chunks:
 *
 *     4        `LLOC`
 *     u8       1, the format
 *     32       the segment's digest
 *     varint   number of packs, then so many pack ids of 32 bytes, in the order in which the rows first name them
 *     varint   number of chunks: those of the segment, each once, in order of first appearance
 *     for each chunk:
 *       varint   pack, counted from 0
 *       signed   offset in the pack object, less the end of the chunk before in the same pack (of its first: less 0)
 *       varint   twice its stored length in bytes, and one more if it is stored as one zstd frame
 *     32       SHA-256 of all before it
 *
 * Chunk ids and lengths are the segment's.
 */

export type ChunkCodec = 'raw' | 'zstd';

/** Where a chunk lies. */
export interface ChunkLocation {
  readonly id: Digest;
  readonly pack: Digest;
  /** Of its first stored byte in the pack object. */
  readonly offset: number;
  /** Bytes in the pack. */
  readonly stored: number;
  /** Bytes of the chunk itself. */
  readonly length: number;
  readonly codec: ChunkCodec;
}

const MAGIC = 0x434f_4c4c; // 'LLOC'
const FORMAT = 1;

/** The longest object of locations, in bytes: those of the largest segment. */
export const LOCATIONS_LIMIT = 256 * 1024 * 1024;

/** @param locations those of the segment's chunks, in their order */
export function encodeLocations(segment: Digest, locations: readonly ChunkLocation[]): Buffer {
  const packs = new Map<Digest, { number: number; end: number }>();
  const rows = new ByteWriter(64 + locations.length * 12);
  for (const { id, pack: packId, offset, stored, codec } of locations) {
    let pack = packs.get(packId);
    if (pack === undefined) {
      pack = { number: packs.size, end: 0 };
      packs.set(packId, pack);
    }
    if (stored < 1 || offset < 1) throw new InvalidError(`chunk ${id} cannot lie at ${offset} with ${stored} bytes`);
    rows.varint(pack.number);
    rows.signed(offset - pack.end);
    rows.varint(stored * 2 + (codec === 'zstd' ? 1 : 0));
    pack.end = offset + stored;
  }
  const out = new ByteWriter(128 + packs.size * DIGEST_BYTES + rows.length);
  out.u32(MAGIC);
  out.u8(FORMAT);
  out.digest(segment);
  out.varint(packs.size);
  for (const pack of packs.keys()) out.digest(pack);
  out.varint(locations.length);
  out.bytes(rows.view());
  out.digest(sha256(out.view()));
  return Buffer.from(out.view());
}

/** Where stored chunks lie, without telling which chunks they are: what can be said of locations without their segment. */
export interface Places {
  readonly packs: readonly Digest[];
  /** One for each chunk, in the order of the segment's; `pack` counts in `packs`. */
  readonly rows: readonly Place[];
}

export type Place = Pick<ChunkLocation, 'offset' | 'stored' | 'codec'> & { readonly pack: number };

/** The places in locations, checked against their checksum. */
export function readPlaces(segment: Digest, object: Buffer): Places {
  const { reader, packs, count } = openLocations(segment, object);
  const rows: Place[] = [];
  for (let i = 0; i < count; i++) rows.push(nextPlace(reader, packs, rows.length));
  finish(reader, packs);
  return { packs: packs.ids, rows };
}

/** @param chunks the segment's, each once, in order of first appearance */
export function decodeLocations(segment: Digest, object: Buffer, chunks: readonly ChunkRef[]): ChunkLocation[] {
  const { reader, packs, count } = openLocations(segment, object);
  if (count !== chunks.length) reader.fail(`they tell of ${count} chunks, and the segment has ${chunks.length}`);
  const locations: ChunkLocation[] = [];
  for (const { id, length } of chunks) {
    const { pack, offset, stored, codec } = nextPlace(reader, packs, locations.length);
    if (codec === 'raw' ? stored !== length : stored >= length)
      reader.fail(`chunk ${id} of ${length} bytes is stored in ${stored} (${codec})`);
    locations.push({ id, pack: packs.ids[pack]!, offset, stored, length, codec });
  }
  finish(reader, packs);
  return locations;
}

interface PackTable {
  readonly ids: readonly Digest[];
  /** Of the chunk before in each pack. */
  readonly ends: number[];
  used: number;
}

function openLocations(segment: Digest, object: Buffer): { reader: ByteReader; packs: PackTable; count: number } {
  const name = `locations of segment ${segment}`;
  const bodyEnd = Math.max(0, object.length - DIGEST_BYTES);
  const tail = new ByteReader(name, object, bodyEnd);
  const reader: ByteReader = new ByteReader(name, object, 0, bodyEnd);
  if (reader.u32() !== MAGIC) reader.fail('they do not begin as locations');
  const format = reader.u8();
  if (format !== FORMAT) reader.fail(`they have the format ${format}, and this version of Larder knows only ${FORMAT}`);
  if (tail.digest() !== sha256(object.subarray(0, bodyEnd))) reader.fail('their checksum is wrong');
  const about = reader.digest();
  if (about !== segment) reader.fail(`they are those of segment ${about}`);
  const ids: Digest[] = [];
  for (let left = reader.count(DIGEST_BYTES); left > 0; left--) ids.push(reader.digest());
  return { reader, packs: { ids, ends: ids.map(() => 0), used: 0 }, count: reader.count(3) };
}

function nextPlace(reader: ByteReader, packs: PackTable, at: number): Place {
  const pack = reader.varint();
  if (pack > packs.used || pack >= packs.ids.length) reader.fail(`a chunk lies in pack ${pack}`);
  if (pack === packs.used) packs.used += 1;
  const offset = packs.ends[pack]! + reader.signed();
  const storedAndCodec = reader.varint();
  const stored = Math.floor(storedAndCodec / 2);
  const end = offset + stored;
  packs.ends[pack] = end;
  if (offset < 1 || stored < 1 || !Number.isSafeInteger(end)) reader.fail(`chunk ${at} lies at ${offset}`);
  return { pack, offset, stored, codec: storedAndCodec % 2 === 1 ? 'zstd' : 'raw' };
}

function finish(reader: ByteReader, packs: PackTable): void {
  if (packs.used !== packs.ids.length) reader.fail('no chunk lies in one of their packs');
  reader.finish();
}

/** One line a chunk, for tests and people. */
export function formatLocations(locations: Iterable<ChunkLocation>): string {
  let out = '';
  for (const { id, pack, offset, stored, length, codec } of locations)
    out += `${id} ${pack} ${offset} ${stored} ${length} ${codec}\n`;
  return out;
}
