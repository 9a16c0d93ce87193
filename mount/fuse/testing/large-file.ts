import { closeSync, openSync, readSync } from 'node:fs';
import type { RingFile } from '../ring-file.ts';

/** Bytes that differ everywhere, and are known without keeping them: a file of any size. Word `n` is a mix of `n` and the seed. */
export function patternBytes(seed: number, offset: number, length: number): Buffer {
  const from = Math.floor(offset / 4);
  const words = new Uint32Array(Math.ceil((offset + length) / 4) - from);
  for (let index = 0; index < words.length; index += 1)
    words[index] = Math.imul(from + index + 1, 0x9e3779b1) ^ Math.imul(seed + 1, 0x85ebca6b);
  const start = offset - from * 4;
  return Buffer.from(words.buffer, start, length);
}

/** What a test sees and decides of a ring file. */
export interface Watched extends RingFile {
  readonly reads: { offset: number; length: number; signal: AbortSignal }[];
  closed: number;
  /** Path of the whole file, once the test has made one. */
  path: string | undefined;
  /** Runs before each read. */
  before: (offset: number, signal: AbortSignal) => unknown;
}

export function watchedFile(size: number, bytes: (offset: number, length: number) => Buffer): Watched {
  const file: Watched = {
    size,
    reads: [],
    closed: 0,
    path: undefined,
    before: () => {},
    async read(offset, length, signal) {
      file.reads.push({ offset, length, signal });
      await file.before(offset, signal);
      return bytes(offset, length);
    },
    whole: () => file.path,
    close() {
      file.closed += 1;
    },
  };
  return file;
}

/** Whether the file at `path` holds the pattern of `seed`, compared a MiB at a time. */
export function holdsPattern(path: string, seed: number, size: number): boolean {
  const fd = openSync(path, 'r');
  try {
    const buffer = Buffer.alloc(2 ** 20);
    let offset = 0;
    for (;;) {
      const got = readSync(fd, buffer, 0, buffer.length, offset);
      if (got === 0) return offset === size;
      if (!buffer.subarray(0, got).equals(patternBytes(seed, offset, got))) return false;
      offset += got;
    }
  } finally {
    closeSync(fd);
  }
}
