import { readObject } from '../bucket/read-object.ts';
import { damagedChunk, restoreChunk } from '../chunk-codec.ts';
import type { Digest } from '../digest.ts';
import { CorruptError, InvalidError } from '../errors.ts';
import type { ChunkLocation } from '../format/locations.ts';
import {
  CHUNK_LIMIT,
  decodePackIndex,
  PACK_CHUNKS_LIMIT,
  PACK_HEAD_BYTES,
  type PackIndexEntry,
  packIndexBytes,
  packIndexLength,
  packName,
} from '../format/pack.ts';
import { packKey } from '../keys.ts';
import { PACK_TARGET_BYTES } from '../pack-builder.ts';
import type { Repository } from '../repository.ts';

/** The largest pack that is carried whole, in bytes: a pack's target, and one chunk more. */
export const WHOLE_LIMIT = PACK_TARGET_BYTES + CHUNK_LIMIT + packIndexBytes(PACK_CHUNKS_LIMIT);

/** Bytes between wanted chunks that are read along. */
const GAP_BYTES = 64 * 1024;
/** Bytes that are asked for at once, unless one chunk is longer. */
const RUN_BYTES = 4 * 1024 * 1024;

/** A pack as it is, and what it holds; each chunk verified. A CorruptError names the pack, and the chunk if one is damaged. */
export async function readWholePack(
  repository: Repository,
  pack: Digest,
  signal?: AbortSignal,
): Promise<{ readonly bytes: Buffer; readonly entries: readonly PackIndexEntry[] }> {
  const { size, body } = await repository.bucket.get(packKey(pack), { checked: true, signal });
  const bytes = Buffer.allocUnsafeSlow(size);
  let length = 0;
  for await (const block of body) {
    if (length + block.length > size) throw damaged(pack, `it has more than its ${size} bytes`);
    length += block.copy(bytes, length);
  }
  if (length < PACK_HEAD_BYTES || length < size) throw damaged(pack, 'it ends too early');
  const head = packIndexLength(pack, bytes.subarray(0, PACK_HEAD_BYTES), size);
  const entries = decodePackIndex(pack, bytes.subarray(0, head), size);
  for (const entry of entries) {
    signal?.throwIfAborted();
    await restoreChunk(pack, entry, bytes.subarray(entry.offset, entry.offset + entry.stored));
  }
  return { bytes, entries };
}

/** A chunk as it is stored, verified. */
export interface StoredBytes {
  readonly location: ChunkLocation;
  readonly bytes: Buffer;
}

/** Chunks of one pack that lie together, in order of their places. */
export type Run = readonly ChunkLocation[];

/** Cuts chunks of one pack into runs that are read with one request each. */
export function runsOf(locations: readonly ChunkLocation[]): Run[] {
  const runs: ChunkLocation[][] = [];
  let end = Number.NEGATIVE_INFINITY;
  let start = 0;
  for (const location of [...locations].sort((a, b) => a.offset - b.offset)) {
    const stop = location.offset + location.stored;
    if (location.offset - end <= GAP_BYTES && stop - start <= RUN_BYTES) runs.at(-1)!.push(location);
    else {
      runs.push([location]);
      start = location.offset;
    }
    end = Math.max(end, stop);
  }
  return runs;
}

/** @throws CorruptError that names pack and chunk; NotFoundError where there is no such pack */
export async function readRun(repository: Repository, run: Run, signal?: AbortSignal): Promise<StoredBytes[]> {
  const { pack, offset } = run[0]!;
  const length = run.at(-1)!.offset + run.at(-1)!.stored - offset;
  let bytes: Buffer;
  try {
    ({ bytes } = await readObject(repository.bucket, packKey(pack), length, { range: { offset, length }, signal }));
  } catch (error) {
    if (!(error instanceof InvalidError)) throw error;
    throw damagedChunk(pack, run.at(-1)!.id, 'the pack ends before it', error);
  }
  const found: StoredBytes[] = [];
  for (const location of run) {
    const at = location.offset - offset;
    const stored = bytes.subarray(at, at + location.stored);
    await restoreChunk(pack, location, stored);
    found.push({ location, bytes: stored });
  }
  return found;
}

function damaged(pack: Digest, fault: string): CorruptError {
  return new CorruptError(`${packName(pack)} is damaged: ${fault}`, { facts: { pack, fault } });
}
