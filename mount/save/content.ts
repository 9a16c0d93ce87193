import type { Content } from '../../dataset/entry.ts';
import { ByteReader } from '../../dataset/format/byte-reader.ts';
import { ByteWriter } from '../../dataset/format/byte-writer.ts';
import { readParts, writeParts } from '../../dataset/format/parts.ts';

const INLINE = 0;
const CHUNK = 1;
const CHUNKS = 2;

/** A content as a save index keeps it: a byte for its kind, then its bytes, its digest or its part list. Undefined for one that stays elsewhere. */
export function encodeContent(content: Content): Buffer | undefined {
  if (content.kind === 'source') return undefined;
  if (content.kind === 'inline') return Buffer.concat([Buffer.of(INLINE), content.bytes]);
  const out = new ByteWriter(content.kind === 'chunk' ? 33 : 64);
  out.u8(content.kind === 'chunk' ? CHUNK : CHUNKS);
  if (content.kind === 'chunk') out.digest(content.id);
  else writeParts(out, content.parts);
  return Buffer.from(out.view());
}

export function decodeContent(bytes: Buffer): Content {
  const reader = new ByteReader('a content of a save index', bytes);
  const kind = reader.u8();
  if (kind === INLINE) return { kind: 'inline', bytes: bytes.subarray(1) };
  if (kind === CHUNK) return { kind: 'chunk', id: reader.digest() };
  if (kind !== CHUNKS) reader.fail(`it has the kind ${kind}`);
  return { kind: 'chunks', ...readParts(reader) };
}
