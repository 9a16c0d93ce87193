import { open } from 'node:fs/promises';
import { layoutOf, objectPath } from '../cache/layout.ts';
import { isErrno } from '../dataset/errors.ts';
import type { ChunkSource } from '../dataset/repair.ts';

/** A node's cache as a source of chunks: its files are named by their content ids. It is only read, beside a daemon that runs. */
export function cacheSource(directory: string): ChunkSource {
  const layout = layoutOf(directory);
  return {
    name: `the cache ${directory}`,
    async chunk({ length, places }) {
      for (const { content, offset } of places) {
        const bytes = await readRange(objectPath(layout, content), offset, length);
        if (bytes !== undefined) return bytes;
      }
      return undefined;
    },
  };
}

/** Undefined where there is no such file, or it is shorter, or the disk cannot read it. */
async function readRange(path: string, offset: number, length: number): Promise<Buffer | undefined> {
  try {
    await using file = await open(path, 'r');
    const bytes = Buffer.allocUnsafeSlow(length);
    const { bytesRead } = await file.read(bytes, 0, length, offset);
    return bytesRead === length ? bytes : undefined;
  } catch (error) {
    if (isErrno(error, 'ENOENT') || isErrno(error, 'EIO')) return undefined;
    throw error;
  }
}
