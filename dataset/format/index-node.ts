import { type ByteString, textOf } from '../byte-string.ts';
import { DIGEST_BYTES, type Digest } from '../digest.ts';
import { comparePaths, pathFault } from '../path.ts';
import { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';

/*
 * An index segment: what a run of segments of the level below holds.
 *
 *     u8       level: 1 above leaves, 2 above that, and so on
 *     varint   number of children, at least 1
 *     for each child:
 *       varint   length of its first path, then that path
 *       varint   length of its last path, then that path
 *       varint   entries below it
 *       varint   the sum of the sizes of the files below it
 *     the children's digests, 32 bytes each
 */

/** What a segment holds, as its parent tells it. */
export interface SegmentRef {
  readonly digest: Digest;
  readonly first: ByteString;
  readonly last: ByteString;
  /** Entries in it or below it. */
  readonly entries: number;
  /** The sum of the sizes of the files in it or below it. */
  readonly bytes: number;
}

export interface IndexNode {
  readonly level: number;
  readonly children: readonly SegmentRef[];
}

/** The highest level: with 16 children at least, more than any dataset can reach. */
export const LEVEL_LIMIT = 12;

export function encodeIndexNode({ level, children }: IndexNode): Buffer {
  const out = new ByteWriter(64 + children.length * 128);
  out.u8(level);
  out.varint(children.length);
  for (const { first, last, entries, bytes } of children) {
    out.varint(first.length);
    out.latin1(first);
    out.varint(last.length);
    out.latin1(last);
    out.varint(entries);
    out.varint(bytes);
  }
  for (const { digest } of children) out.digest(digest);
  return Buffer.from(out.view());
}

/** @param name the segment as messages call it */
export function decodeIndexNode(name: string, raw: Buffer): IndexNode {
  const reader = new ByteReader(name, raw);
  const level = reader.u8();
  if (level === 0 || level > LEVEL_LIMIT) reader.fail(`it has the level ${level}`);
  const count = reader.count(4 + DIGEST_BYTES);
  if (count === 0) reader.fail('it has no child');
  const digests = new ByteReader(name, raw, raw.length - count * DIGEST_BYTES);
  const rows = new ByteReader(name, raw, reader.position, digests.position);
  const children: SegmentRef[] = [];
  let previous: ByteString | undefined;
  let total = 0;
  let size = 0;
  for (let i = 0; i < count; i++) {
    const first = readPath(rows);
    const last = readPath(rows);
    const entries = rows.varint();
    const bytes = rows.varint();
    if (entries === 0) rows.fail('a child has no entry');
    if ((previous !== undefined && comparePaths(previous, first) >= 0) || comparePaths(first, last) > 0)
      rows.fail(`the child from '${textOf(first)}' is not in path order`);
    total += entries;
    size += bytes;
    if (!Number.isSafeInteger(total) || !Number.isSafeInteger(size)) rows.fail('its totals are too large');
    previous = last;
    children.push({ digest: digests.digest(), first, last, entries, bytes });
  }
  rows.finish();
  return { level, children };
}

function readPath(reader: ByteReader): ByteString {
  const path = reader.latin1(reader.varint()) as ByteString;
  const fault = pathFault(path);
  if (fault !== undefined) reader.fail(`the path '${textOf(path)}' ${fault}`);
  return path;
}
