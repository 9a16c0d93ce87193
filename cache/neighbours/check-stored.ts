import { decodePackIndex, PACK_HEAD_BYTES, packIndexLength } from '../../dataset/format/pack.ts';
import { unsealSegment } from '../../dataset/format/segment.ts';
import type { StoredObject } from './stored-object.ts';
import type { SharedKey } from './wire.ts';

/**
 * Checks what is cheap to check of an object that is whole: all of a segment; of a pack its index, which its id is the digest of, and its length. A
 * pack's chunks are the reader's to check: he decompresses them anyway.
 * @throws CorruptError
 */
export async function checkStored({ kind, digest }: SharedKey, object: StoredObject): Promise<void> {
  const { size } = object.info;
  if (kind === 'segments') unsealSegment(digest, await readAll(object, size));
  if (kind !== 'packs') return;
  const head = await readAll(object, Math.min(PACK_HEAD_BYTES, size));
  decodePackIndex(digest, await readAll(object, packIndexLength(digest, head, size)), size);
}

async function readAll(object: StoredObject, length: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let at = 0; at < length; ) {
    const part = await object.read(at, length);
    parts.push(part);
    at += part.length;
  }
  return Buffer.concat(parts);
}
