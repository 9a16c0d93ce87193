import { zstdCompress, zstdDecompress } from '../../system/calls/zstd.ts';

/** Level 3 saves 2% more on text and takes half as long again: reading and writing are what an import waits for. */
const LEVEL = 1;

/** Data that does not shrink to this part of its length is stored as it is: reading it back is then a copy. */
const WORTH = 31 / 32;

/** Larger chunks are judged by a sample from their middle first: nothing is spent on a chunk of a video or an archive. */
const SAMPLED = 512 << 10;
const SAMPLE = 64 << 10;

const scratch = Buffer.alloc(SAMPLE);

/**
 * Compresses a chunk where that pays.
 * @param target at least as long as the chunk
 * @returns the compressed length, written to `target`; 0 where the chunk is to be stored as it is
 */
export function compressChunk(target: Uint8Array, chunk: Uint8Array): number {
  if (chunk.length > SAMPLED) {
    const start = ((chunk.length - SAMPLE) / 2) | 0;
    if (zstdCompress(scratch.subarray(0, SAMPLE * WORTH), chunk.subarray(start, start + SAMPLE), LEVEL) < 0) return 0;
  }
  const limit = Math.floor(chunk.length * WORTH);
  const length = zstdCompress(target.subarray(0, limit), chunk, LEVEL);
  return Math.max(length, 0);
}

/** The chunk of `length` bytes that `stored` is the zstd frame of; undefined where it is damaged. */
export function decompressChunk(stored: Uint8Array, length: number): Buffer | undefined {
  const chunk = Buffer.allocUnsafeSlow(length);
  return zstdDecompress(chunk, stored) === length ? chunk : undefined;
}
