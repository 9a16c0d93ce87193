import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readdirSync, readSync } from 'node:fs';
import { join, relative } from 'node:path';

/** Every file below `directory`, relative to it, sorted. */
export function filesOf(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)))
    .sort();
}

/** The same files in random order, as a data loader with shuffling asks for them. */
export function shuffle(files: readonly string[]): string[] {
  const shuffled = [...files];
  for (let index = shuffled.length - 1; index > 0; index -= 1) {
    const other = Math.floor(Math.random() * (index + 1));
    [shuffled[index], shuffled[other]] = [shuffled[other] as string, shuffled[index] as string];
  }
  return shuffled;
}

export interface Epoch {
  readonly files: number;
  readonly bytes: number;
  readonly seconds: number;
}

/** Opens, reads whole and closes each file once. */
export function readEpoch(directory: string, files: readonly string[]): Epoch {
  let buffer = Buffer.alloc(1 << 20);
  let bytes = 0;
  const start = performance.now();
  for (const file of files) {
    const descriptor = openSync(join(directory, file), 'r');
    const { size } = fstatSync(descriptor);
    if (size > buffer.length) buffer = Buffer.alloc(size);
    bytes += readSync(descriptor, buffer, 0, size, 0);
    closeSync(descriptor);
  }
  return { files: files.length, bytes, seconds: (performance.now() - start) / 1000 };
}

/** One SHA-256 over all names and bytes of a tree. */
export function digestOfTree(directory: string): string {
  const hash = createHash('sha256');
  const buffer = Buffer.alloc(1 << 20);
  for (const file of filesOf(directory)) {
    const descriptor = openSync(join(directory, file), 'r');
    hash.update(`${file}\0${fstatSync(descriptor).size}\0`);
    for (let count = readSync(descriptor, buffer); count > 0; count = readSync(descriptor, buffer)) {
      hash.update(buffer.subarray(0, count));
    }
    closeSync(descriptor);
  }
  return hash.digest('hex');
}
