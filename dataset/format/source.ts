import { isUtf8 } from 'node:buffer';
import { hash } from 'node:crypto';
import type { Digest } from '../digest.ts';
import type { SourceContent } from '../entry.ts';
import type { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';

/*
 * A reference to an object that stays where it is. Texts are UTF-8.
 *
 *     varint, bytes   bucket
 *     varint, bytes   key
 *     varint, bytes   ETag
 *     varint, bytes   version id, empty where the bucket keeps no versions
 *
 * Its content id is the SHA-512/256 of the nine bytes `source 1\n` and these (why not SHA-256: see parts.ts).
 */

const DOMAIN = Buffer.from('source 1\n', 'latin1');

/** Where a domain and an encoding are put beside each other. A longer encoding gets memory of its own. */
const scratch = Buffer.alloc(DOMAIN.length + 4096);
DOMAIN.copy(scratch);

type Reference = Omit<SourceContent, 'kind' | 'id'>;

export function writeSource(out: ByteWriter, source: Reference): void {
  for (const text of [source.bucket, source.key, source.etag, source.version ?? '']) {
    out.varint(Buffer.byteLength(text));
    out.utf8(text);
  }
}

export function readSource(reader: ByteReader): SourceContent {
  const start = reader.position;
  const bucket = readText(reader);
  const key = readText(reader);
  const etag = readText(reader);
  const version = readText(reader);
  if (bucket === '' || key === '' || etag === '') reader.fail('a source reference lacks its bucket, key or ETag');
  const id = idOfEncoding(reader.buffer.subarray(start, reader.position));
  return { kind: 'source', id, bucket, key, etag, version: version === '' ? undefined : version };
}

/** The content of the object that `reference` names. */
export function sourceContent(reference: Reference): SourceContent {
  const out = new ByteWriter(256);
  writeSource(out, reference);
  const { bucket, key, etag, version } = reference;
  return {
    kind: 'source',
    id: idOfEncoding(out.view()),
    bucket,
    key,
    etag,
    version: version === '' ? undefined : version,
  };
}

function readText(reader: ByteReader): string {
  const length = reader.count(1);
  const { buffer, position } = reader;
  // Plain ASCII, which nearly all of them are, needs no more.
  let i = position;
  while (i < position + length && buffer[i]! < 0x80) i += 1;
  if (i === position + length) return reader.latin1(length);
  const bytes = reader.bytes(length);
  if (!isUtf8(bytes)) reader.fail('a source reference is not UTF-8');
  return bytes.toString('utf8');
}

function idOfEncoding(encoding: Uint8Array): Digest {
  const length = DOMAIN.length + encoding.length;
  if (length > scratch.length) return hash('sha512-256', Buffer.concat([DOMAIN, encoding]), 'hex') as Digest;
  scratch.set(encoding, DOMAIN.length);
  return hash('sha512-256', scratch.subarray(0, length), 'hex') as Digest;
}
