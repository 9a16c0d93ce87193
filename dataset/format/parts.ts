import { hash } from 'node:crypto';
import type { Digest } from '../digest.ts';
import type { Part } from '../entry.ts';
import { InvalidError } from '../errors.ts';
import type { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';

/*
 * A part list: what a file of several chunks, or with holes, is made of.
 *
 *     varint   number of parts
 *     for each part:
 *       varint   length in bytes, at least 1
 *       u8       0: a hole, 1: a chunk
 *       32       the chunk's SHA-256, if it is one
 *
 * No hole follows a hole, and a single part is a hole: a file that is one chunk is written as that. So one file has one list.
 *
 * The content id of such a file is the SHA-512/256 of the eight bytes `parts 1\n` and the list. It is not a SHA-256, so that no
 * one can make a file whose bytes are another's list and whose content id is therefore the other's.
 */

const DOMAIN = Buffer.from('parts 1\n', 'latin1');
const HOLE = 0;
const CHUNK = 1;

/** Appends the part list to `out`; an InvalidError where it is not in the one form it may have. */
export function writeParts(out: ByteWriter, parts: readonly Part[]): void {
  const fault = partsFault(parts);
  if (fault !== undefined) throw new InvalidError(`a part list cannot be stored: ${fault}`);
  out.varint(parts.length);
  for (const part of parts) {
    out.varint(part.length);
    out.u8(part.chunk === undefined ? HOLE : CHUNK);
    if (part.chunk !== undefined) out.digest(part.chunk);
  }
}

/** Reads a part list up to the reader's end. @returns the parts, and the content id that they make */
export function readParts(reader: ByteReader): { readonly id: Digest; readonly parts: readonly Part[] } {
  const start = reader.position;
  const count = reader.count(2);
  const parts: Part[] = [];
  for (let i = 0; i < count; i++) {
    const length = reader.varint();
    const kind = reader.u8();
    if (kind > CHUNK) reader.fail(`a part has the kind ${kind}`);
    parts.push(kind === CHUNK ? { length, chunk: reader.digest() } : { length });
  }
  const fault = partsFault(parts);
  if (fault !== undefined) reader.fail(fault);
  return { id: idOfEncoding(reader.buffer.subarray(start, reader.position)), parts };
}

/** The content id of a file made of `parts`. */
export function partsId(parts: readonly Part[]): Digest {
  const out = new ByteWriter(16 + parts.length * 40);
  writeParts(out, parts);
  return idOfEncoding(out.view());
}

/** The size in bytes of a file made of `parts`. */
export function partsSize(parts: readonly Part[]): number {
  let size = 0;
  for (const part of parts) size += part.length;
  return size;
}

/** One line a part, for tests and people. */
export function formatParts(parts: readonly Part[]): string {
  return parts.map((part) => `${part.chunk ?? 'hole'} ${part.length}\n`).join('');
}

function idOfEncoding(encoding: Uint8Array): Digest {
  return hash('sha512-256', Buffer.concat([DOMAIN, encoding]), 'hex') as Digest;
}

function partsFault(parts: readonly Part[]): string | undefined {
  if (parts.length === 0) return 'it has no part';
  if (parts.length === 1 && parts[0]!.chunk !== undefined) return 'it is a single chunk';
  let size = 0;
  for (let i = 0; i < parts.length; i++) {
    const { chunk, length } = parts[i]!;
    if (length < 1) return 'a part is empty';
    if (chunk === undefined && i > 0 && parts[i - 1]!.chunk === undefined) return 'a hole follows a hole';
    size += length;
    if (!Number.isSafeInteger(size)) return 'its length is too large';
  }
  return undefined;
}
