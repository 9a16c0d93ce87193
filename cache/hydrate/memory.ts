import type { ChunkLocation } from '../../dataset/location.ts';

/** What a read of a bucket holds, in bytes: what is on its way to a worker. */
export const READ_MEMORY = 1024 * 1024;

/** What a chunk takes while it is verified and written, in bytes: as it is stored and, where that is something else, as it is. */
export function chunkMemory({ codec, stored, length }: ChunkLocation): number {
  return codec === 'raw' ? stored : stored + length;
}
