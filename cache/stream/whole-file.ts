import { closeSync, fstatSync, openSync, read as readCallback } from 'node:fs';
import { promisify } from 'node:util';
import type { Digest } from '../../dataset/digest.ts';
import { isErrno } from '../../dataset/errors.ts';
import type { Cache } from '../cache.ts';
import type { LocalBlocks } from './disk-part.ts';
import { BLOCK_BYTES } from './presence.ts';

const preadCallback = promisify(readCallback);

/** `length` bytes of a file that has them. */
export async function readExactly(descriptor: number, offset: number, length: number): Promise<Uint8Array> {
  const out = Buffer.allocUnsafeSlow(length);
  for (let at = 0; at < length; ) {
    const { bytesRead } = await preadCallback(descriptor, out, at, length - at, offset + at);
    if (bytesRead === 0) throw new Error(`it ends at byte ${offset + at}`);
    at += bytesRead;
  }
  return out;
}

/** An object that is in the cache, read through a descriptor: it can be read on when it is evicted. */
export class WholeFile {
  readonly id: Digest;
  readonly size: number;
  readonly local: LocalBlocks;
  readonly inMemory = false;
  readonly needsWindow = false;
  readonly #reads = new Set<Promise<unknown>>();

  constructor(id: Digest, descriptor: number) {
    this.id = id;
    this.size = fstatSync(descriptor).size;
    const blocks = Math.ceil(this.size / BLOCK_BYTES);
    const present = new SharedArrayBuffer(Math.max(1, Math.ceil(blocks / 8)));
    new Uint8Array(present).fill(0xff);
    this.local = { fd: descriptor, block: BLOCK_BYTES, present };
  }

  /** Undefined where it is not there. */
  static open(cache: Cache, id: Digest): WholeFile | undefined {
    let descriptor: number;
    try {
      descriptor = openSync(cache.objectPath(id), 'r');
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return undefined;
      throw error;
    }
    return new WholeFile(id, descriptor);
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const wanted = Math.max(0, Math.min(length, this.size - offset));
    const read = readExactly(this.local.fd, offset, wanted);
    this.#reads.add(read);
    try {
      return await read;
    } finally {
      this.#reads.delete(read);
    }
  }

  placed(): void {}

  async close(): Promise<void> {
    await Promise.allSettled(this.#reads);
    closeSync(this.local.fd);
  }
}
