import { type Digest, sha256 } from '../digest.ts';
import { compressChunk } from '../import/compress.ts';
import { freeBuffer } from '../import/slab.ts';
import { serve } from '../threads/serve.ts';

/** Chunks that follow each other in memory, to be named and compressed. */
export interface ChunkTask {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Of each chunk, in bytes. */
  readonly lengths: readonly number[];
}

export interface ReadyChunks {
  readonly digests: readonly Digest[];
  /** What is stored of each, which follow each other in `bytes`; as long as the chunk itself where it is stored as it is. */
  readonly stored: readonly number[];
  readonly bytes: Uint8Array<ArrayBuffer>;
}

serve<ChunkTask>(({ bytes, lengths }) => {
  const output = Buffer.allocUnsafeSlow(bytes.length) as Buffer<ArrayBuffer>;
  const digests: Digest[] = [];
  const stored: number[] = [];
  let from = 0;
  let used = 0;
  for (const length of lengths) {
    const chunk = bytes.subarray(from, from + length);
    const target = output.subarray(used, used + length);
    digests.push(sha256(chunk));
    const compressed = compressChunk(target, chunk);
    if (compressed === 0) target.set(chunk);
    stored.push(compressed === 0 ? length : compressed);
    used += stored.at(-1)!;
    from += length;
  }
  freeBuffer(bytes);
  // A copy of the right length where much would be left over: it may be kept until its pack is full.
  const isTight = used > output.length * 0.9;
  const result = isTight ? new Uint8Array(output.buffer, 0, used) : new Uint8Array(output.subarray(0, used));
  if (!isTight) freeBuffer(output);
  return { result: { digests, stored, bytes: result } satisfies ReadyChunks, transfer: [result.buffer] };
});
