import { type ByteString, textOf } from '../byte-string.ts';
import { DIGEST_BYTES, type Digest } from '../digest.ts';
import type { Content, Entry, FileEntry, Xattr } from '../entry.ts';
import { InvalidError } from '../errors.ts';
import { comparePaths } from '../path.ts';
import { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';
import { entryFault } from './entry-check.ts';
import { readParts, writeParts } from './parts.ts';
import { readSource, writeSource } from './source.ts';

/*
 * A leaf segment: entries in path order. What the entries consist of stands apart by kind, so that a reader turns all texts
 * and all digests into strings in one step each, and zstd meets like with like.
 *
 *     u8       0, the level
 *     varint   number of entries
 *     varint   bytes of the rows
 *     varint   bytes of the texts
 *     varint   number of the digests
 *     rows, texts, digests (32 bytes each), then the blobs up to the end
 *
 * Row of an entry:
 *     u8       bits 0-1: 0 file, 1 directory, 2 symlink
 *              bits 2-3, files only: 0 inline, 1 one chunk, 2 parts, 3 source
 *              bit 4: has extended attributes; bit 5, files only: is in a link group
 *     varint   length of the path, which is next in the texts
 *     varint   mode
 *     varint   uid
 *     varint   gid
 *     signed   mtime in seconds, less that of the entry before (of the first: less 0)
 *     varint   its nanoseconds
 *     file:    varint   size; inline: so many bytes are next in the blobs
 *              one chunk: its digest is next in the digests
 *              parts:     varint   length of the part list (parts.ts), which is next in the blobs
 *              source:    varint   length of the reference (source.ts), which is next in the blobs
 *              in a link group: varint length of its name, which is next in the texts
 *     symlink: varint   length of the target, which is next in the texts
 *     with extended attributes: varint how many, at least 1; for each
 *              varint   length of the name, which is next in the texts
 *              varint   length of the value, which is next in the blobs
 */

const FILE = 0;
const DIRECTORY = 1;
const SYMLINK = 2;
const INLINE = 0 << 2;
const ONE_CHUNK = 1 << 2;
const PARTS = 2 << 2;
const SOURCE = 3 << 2;
const HAS_XATTRS = 1 << 4;
const IN_LINK_GROUP = 1 << 5;

/** The least that a row takes, in bytes. */
const ROW_BYTES = 7;

/** Collects entries, which must come in path order, and encodes them. */
export class LeafEncoder {
  readonly #rows = new ByteWriter(16_384);
  readonly #texts = new ByteWriter(65_536);
  readonly #digests = new ByteWriter(32_768);
  readonly #blobs = new ByteWriter(16_384);
  #count = 0;
  #seconds = 0;
  #bytes = 0;
  #first: ByteString | undefined;
  #last: ByteString | undefined;

  /** Entries added. */
  get count(): number {
    return this.#count;
  }

  /** The sum of the files' sizes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** How long the encoding will be, but for its few bytes of head. */
  get weight(): number {
    return this.#rows.length + this.#texts.length + this.#digests.length + this.#blobs.length;
  }

  get first(): ByteString | undefined {
    return this.#first;
  }

  get last(): ByteString | undefined {
    return this.#last;
  }

  /** @param isSound whether the entry was decoded from a leaf: then it is not checked again */
  add(entry: Entry, isSound = false): void {
    const fault = isSound ? undefined : entryFault(entry);
    if (fault !== undefined) throw new InvalidError(`the entry '${textOf(entry.path)}' ${fault}`);
    if (this.#last !== undefined && comparePaths(this.#last, entry.path) >= 0)
      throw new InvalidError(
        `the entry '${textOf(entry.path)}' comes after '${textOf(this.#last)}', which is no path order`,
      );
    this.#first ??= entry.path;
    this.#last = entry.path;
    this.#count += 1;
    const rows = this.#rows;
    rows.u8(flagsOf(entry));
    this.#text(entry.path);
    rows.varint(entry.mode);
    rows.varint(entry.uid);
    rows.varint(entry.gid);
    rows.signed(entry.mtimeSeconds - this.#seconds);
    this.#seconds = entry.mtimeSeconds;
    rows.varint(entry.mtimeNanos);
    if (entry.type === 'file') this.#file(entry);
    else if (entry.type === 'symlink') this.#text(entry.target);
    if (entry.xattrs !== undefined) {
      rows.varint(entry.xattrs.length);
      for (const { name, value } of entry.xattrs) {
        this.#text(name);
        rows.varint(value.length);
        this.#blobs.bytes(value);
      }
    }
  }

  /** The encoding of all entries added since the last call; the encoder is empty again. */
  finish(): Buffer {
    const head = new ByteWriter(32);
    head.u8(0);
    head.varint(this.#count);
    head.varint(this.#rows.length);
    head.varint(this.#texts.length);
    head.varint(this.#digests.length / DIGEST_BYTES);
    const sections = [this.#rows, this.#texts, this.#digests, this.#blobs];
    const raw = Buffer.concat([head.view(), ...sections.map((section) => section.view())]);
    for (const section of sections) section.clear();
    this.#count = 0;
    this.#seconds = 0;
    this.#bytes = 0;
    this.#first = undefined;
    this.#last = undefined;
    return raw;
  }

  #file(entry: FileEntry): void {
    const { content } = entry;
    this.#bytes += entry.size;
    this.#rows.varint(entry.size);
    if (content.kind === 'inline') this.#blobs.bytes(content.bytes);
    else if (content.kind === 'chunk') this.#digests.digest(content.id);
    else {
      const before = this.#blobs.length;
      if (content.kind === 'chunks') writeParts(this.#blobs, content.parts);
      else writeSource(this.#blobs, content);
      this.#rows.varint(this.#blobs.length - before);
    }
    if (entry.link !== undefined) this.#text(entry.link);
  }

  #text(value: ByteString): void {
    this.#rows.varint(value.length);
    this.#texts.latin1(value);
  }
}

/** The encoding of `entries`, which must be in path order. */
export function encodeLeaf(entries: Iterable<Entry>): Buffer {
  const encoder = new LeafEncoder();
  for (const entry of entries) encoder.add(entry);
  return encoder.finish();
}

/**
 * The entries of a leaf segment. Paths and digests are slices of one string a segment, and inline bytes are views of `raw`: to keep
 * a few entries of very many segments for long, copy those.
 * @param name the segment as messages call it
 */
export function decodeLeaf(name: string, raw: Buffer): Entry[] {
  const reader = new ByteReader(name, raw);
  if (reader.u8() !== 0) reader.fail('it is no leaf');
  const count = reader.count(ROW_BYTES);
  const rowsLength = reader.varint();
  const textsLength = reader.varint();
  const digestCount = reader.count(DIGEST_BYTES);
  const rowsStart = reader.skip(rowsLength);
  const texts = reader.latin1(textsLength);
  const digests = reader.hex(digestCount * DIGEST_BYTES);
  const rows = new ByteReader(name, raw, rowsStart, rowsStart + rowsLength);
  const blobs = new ByteReader(name, raw, reader.position);

  let textAt = 0;
  const text = (): ByteString => {
    const start = textAt;
    textAt += rows.varint();
    if (textAt > texts.length) rows.fail('a text reaches past the texts');
    return texts.substring(start, textAt) as ByteString;
  };
  let digestAt = 0;
  const digest = (): Digest => {
    const start = digestAt;
    digestAt += DIGEST_BYTES * 2;
    if (digestAt > digests.length) rows.fail('there are fewer digests than files of one chunk');
    return digests.substring(start, digestAt) as Digest;
  };
  const content = (flags: number, size: number): Content => {
    switch (flags & SOURCE) {
      case INLINE:
        return { kind: 'inline', bytes: blobs.bytes(size) };
      case ONE_CHUNK:
        return { kind: 'chunk', id: digest() };
      case PARTS: {
        const list = blobOf(blobs, rows.varint());
        const { id, parts } = readParts(list);
        list.finish();
        return { kind: 'chunks', id, parts };
      }
      default: {
        const reference = blobOf(blobs, rows.varint());
        const source = readSource(reference);
        reference.finish();
        return source;
      }
    }
  };
  const attributes = (): Xattr[] => {
    const xattrs: Xattr[] = [];
    const number = rows.count(2);
    for (let i = 0; i < number; i++) {
      const attribute = text();
      xattrs.push({ name: attribute, value: blobs.bytes(rows.varint()) });
    }
    return xattrs;
  };

  const entries: Entry[] = new Array(count);
  let mtimeSeconds = 0;
  let previous: ByteString | undefined;
  for (let i = 0; i < count; i++) {
    const flags = rows.u8();
    const path = text();
    const mode = rows.varint();
    const uid = rows.varint();
    const gid = rows.varint();
    mtimeSeconds += rows.signed();
    const mtimeNanos = rows.varint();
    const type = flags & 3;
    const known = type === FILE ? 0x3f : type === SYMLINK || type === DIRECTORY ? 0x13 : 0;
    if ((flags & ~known) !== 0) rows.fail(`an entry has the flags ${flags}`);
    let entry: Entry;
    if (type === FILE) {
      const size = rows.varint();
      const bytes = content(flags, size);
      const link = (flags & IN_LINK_GROUP) === 0 ? undefined : text();
      const xattrs = (flags & HAS_XATTRS) === 0 ? undefined : attributes();
      entry = { type: 'file', path, mode, uid, gid, mtimeSeconds, mtimeNanos, xattrs, size, content: bytes, link };
    } else if (type === DIRECTORY) {
      const xattrs = (flags & HAS_XATTRS) === 0 ? undefined : attributes();
      entry = { type: 'directory', path, mode, uid, gid, mtimeSeconds, mtimeNanos, xattrs };
    } else {
      const target = text();
      const xattrs = (flags & HAS_XATTRS) === 0 ? undefined : attributes();
      entry = { type: 'symlink', path, mode, uid, gid, mtimeSeconds, mtimeNanos, xattrs, target };
    }
    const fault = entryFault(entry);
    if (fault !== undefined) rows.fail(`the entry '${textOf(path)}' ${fault}`);
    if (previous !== undefined && comparePaths(previous, path) >= 0)
      rows.fail(`the entry '${textOf(path)}' comes after '${textOf(previous)}', which is no path order`);
    previous = path;
    entries[i] = entry;
  }
  rows.finish();
  blobs.finish();
  if (textAt !== texts.length) rows.fail('some of its texts belong to no entry');
  if (digestAt !== digests.length) rows.fail('some of its digests belong to no entry');
  return entries;
}

function blobOf(blobs: ByteReader, length: number): ByteReader {
  const start = blobs.skip(length);
  return new ByteReader(blobs.name, blobs.buffer, start, start + length);
}

function flagsOf(entry: Entry): number {
  const extra = entry.xattrs === undefined ? 0 : HAS_XATTRS;
  if (entry.type === 'directory') return DIRECTORY | extra;
  if (entry.type === 'symlink') return SYMLINK | extra;
  const { kind } = entry.content;
  const content = kind === 'inline' ? INLINE : kind === 'chunk' ? ONE_CHUNK : kind === 'chunks' ? PARTS : SOURCE;
  return FILE | content | extra | (entry.link === undefined ? 0 : IN_LINK_GROUP);
}
