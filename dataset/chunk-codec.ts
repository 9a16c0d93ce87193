import { hash } from 'node:crypto';
import { zstdDecompress as decompressOnThread } from 'node:zlib';
import { zstdDecompress } from '../system/calls/zstd.ts';
import type { Digest } from './digest.ts';
import { CorruptError } from './errors.ts';
import type { ChunkCodec } from './format/locations.ts';
import { packName } from './format/pack.ts';

interface StoredChunk {
  readonly id: Digest;
  readonly stored: number;
  readonly length: number;
  readonly codec: ChunkCodec;
}

/** From this many bytes on, a chunk is decompressed on a thread of the pool. */
const THREAD_BYTES = 256 * 1024;

/**
 * The bytes of a chunk from those stored in a pack, checked against its id.
 * @throws CorruptError that names pack and chunk
 */
export async function restoreChunk(pack: Digest, chunk: StoredChunk, stored: Buffer): Promise<Buffer> {
  const bytes = chunk.codec === 'raw' ? stored : await decompress(pack, chunk, stored);
  if (bytes.length !== chunk.length)
    throw damagedChunk(pack, chunk.id, `it has ${bytes.length} bytes instead of ${chunk.length}`);
  const actual = hash('sha256', bytes, 'hex');
  if (actual !== chunk.id) throw damagedChunk(pack, chunk.id, `its digest is ${actual}`);
  return bytes;
}

export function damagedChunk(pack: Digest, chunk: Digest, fault: string, cause?: unknown): CorruptError {
  return new CorruptError(`chunk ${chunk} in ${packName(pack)} is damaged: ${fault}`, {
    cause,
    facts: { pack, chunk, fault },
  });
}

async function decompress(pack: Digest, chunk: StoredChunk, stored: Buffer): Promise<Buffer> {
  const { id, length } = chunk;
  if (length < THREAD_BYTES) {
    const bytes = Buffer.allocUnsafeSlow(length);
    const actual = zstdDecompress(bytes, stored);
    if (actual < 0) throw unreadable(pack, id);
    return actual === length ? bytes : bytes.subarray(0, actual);
  }
  try {
    return await new Promise<Buffer>((resolve, reject) => {
      decompressOnThread(stored, { maxOutputLength: length }, (error, bytes) =>
        error === null ? resolve(bytes) : reject(error),
      );
    });
  } catch (error) {
    throw unreadable(pack, id, error);
  }
}

function unreadable(pack: Digest, chunk: Digest, cause?: unknown): CorruptError {
  return damagedChunk(pack, chunk, 'its zstd frame cannot be read', cause);
}
