import { hash } from 'node:crypto';
import { zstdDecompress as decompressOnThread } from 'node:zlib';
import { zstdDecompress } from '../system/calls/zstd.ts';
import type { Digest } from './digest.ts';
import { CorruptError } from './errors.ts';
import type { ChunkCodec } from './format/locations.ts';
import { packName } from './format/pack.ts';

export interface StoredChunk {
  readonly id: Digest;
  readonly stored: number;
  readonly length: number;
  readonly codec: ChunkCodec;
}

/** From this many bytes on, a chunk is decompressed on a thread of the pool. */
const THREAD_BYTES = 256 * 1024;

/**
 * The bytes of a chunk from those stored in a pack, checked against its id: at once, unless it is large and compressed.
 * @param place where they go if they are not the stored ones
 * @throws CorruptError that names pack and chunk
 */
export function restoreChunk(
  pack: Digest,
  chunk: StoredChunk,
  stored: Buffer,
  place: (length: number) => Buffer = Buffer.allocUnsafeSlow,
): Buffer | Promise<Buffer> {
  if (chunk.codec === 'raw') return checked(pack, chunk, stored);
  if (chunk.length < THREAD_BYTES) return checked(pack, chunk, decompress(pack, chunk, stored, place(chunk.length)));
  return decompressAside(pack, chunk, stored).then((bytes) => checked(pack, chunk, bytes));
}

function checked(pack: Digest, chunk: StoredChunk, bytes: Buffer): Buffer {
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

function decompress(pack: Digest, { id, length }: StoredChunk, stored: Buffer, into: Buffer): Buffer {
  const actual = zstdDecompress(into, stored);
  if (actual < 0) throw unreadable(pack, id);
  return actual === length ? into : into.subarray(0, actual);
}

async function decompressAside(pack: Digest, { id, length }: StoredChunk, stored: Buffer): Promise<Buffer> {
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
