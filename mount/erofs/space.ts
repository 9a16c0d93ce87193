import assert from 'node:assert/strict';
import { ftruncateSync, readSync, writeSync } from 'node:fs';
import { BLOCK, roundUp } from './layout.ts';

/** An extent's size: the first of a region is small, so that a small image is; each further one is twice the last, up to this. */
const EXTENT_MAX = 1 << 20;
const EXTENT_MIN = 16 << 10;

/**
 * The image file's space. It is handed out in extents of whole blocks, always at the end; what fills an extent is a Region's
 * matter. A place, once given, is final: so every number that points somewhere is known when it is written.
 */
export class Space {
  readonly fd: number;
  /** The first byte that no extent has. */
  end = 0;
  readonly #regions: Region[] = [];

  constructor(fd: number) {
    this.fd = fd;
  }

  region(): Region {
    const region = new Region(this);
    this.#regions.push(region);
    return region;
  }

  extent(bytes: number): number {
    const at = this.end;
    this.end += roundUp(bytes, BLOCK);
    return at;
  }

  /** Changes bytes that were written before, whether they are still in memory or not. */
  patch(offset: number, bytes: Uint8Array): void {
    for (const region of this.#regions) {
      const at = region.inMemory(offset);
      if (at >= 0) {
        region.bytes.set(bytes, at);
        return;
      }
    }
    writeFully(this.fd, bytes, bytes.length, offset);
  }

  /** Writes what is in memory, and cuts off what the last extents left unused. Returns the image's size: whole blocks. */
  finish(): number {
    let end = 0;
    for (const region of this.#regions) {
      region.flush();
      end = Math.max(end, region.reached);
    }
    const bytes = roundUp(end, BLOCK);
    ftruncateSync(this.fd, bytes);
    return bytes;
  }
}

/** A kind of content, appended in memory and written an extent at a time. Memory not written to is zero. */
export class Region {
  /** The current extent's bytes; at most EXTENT_MAX, or what one piece needs. */
  bytes: Buffer = Buffer.alloc(0);
  view: DataView = new DataView(this.bytes.buffer, 0, 0);
  /** Where in the image `bytes` begins. */
  start = 0;
  /** The end, in the image, of the last thing written. */
  reached = 0;
  #used = 0;
  #capacity = 0;
  #next = EXTENT_MIN;
  readonly #space: Space;

  constructor(space: Space) {
    this.#space = space;
  }

  /** Room for `length` bytes: the index into `bytes`, a multiple of `align` (a power of two up to a block). */
  reserve(length: number, align: number): number {
    let at = (this.#used + align - 1) & -align;
    if (at + length > this.#capacity) {
      this.#open(length);
      at = 0;
    }
    this.#used = at + length;
    return at;
  }

  /** The same, in one block: `length` is at most a block. */
  reserveInBlock(length: number, align: number): number {
    const at = (this.#used + align - 1) & -align;
    const within = at & (BLOCK - 1);
    return this.reserve(length, within + length > BLOCK ? BLOCK : align);
  }

  /** Appends whole blocks, the last filled up with zeros. Returns their offset in the image. */
  appendBlocks(source: Uint8Array, length: number): number {
    if (length > EXTENT_MAX) {
      const offset = this.#space.extent(length);
      writeFully(this.#space.fd, source, length, offset);
      this.reached = Math.max(this.reached, offset + length);
      return offset;
    }
    const at = this.reserve(roundUp(length, BLOCK), BLOCK);
    this.bytes.set(length === source.length ? source : source.subarray(0, length), at);
    return this.start + at;
  }

  /** The index into `bytes` of an offset in the image, or -1 when it is not, or no longer, in memory. */
  inMemory(offset: number): number {
    const at = offset - this.start;
    return at >= 0 && at < this.#used ? at : -1;
  }

  flush(): void {
    if (this.#used === 0) return;
    writeFully(this.#space.fd, this.bytes, this.#used, this.start);
    this.reached = Math.max(this.reached, this.start + this.#used);
    this.bytes.fill(0, 0, this.#used);
    this.#used = 0;
    this.#capacity = 0;
  }

  #open(length: number): void {
    this.flush();
    this.#capacity = Math.max(this.#next, roundUp(length, BLOCK));
    this.#next = Math.min(this.#next * 2, EXTENT_MAX);
    if (this.bytes.length < this.#capacity) {
      this.bytes = Buffer.alloc(Math.max(this.#capacity, this.#next));
      this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length);
    }
    this.start = this.#space.extent(this.#capacity);
  }
}

export function writeFully(fd: number, bytes: Uint8Array, length: number, offset: number): void {
  let done = 0;
  while (done < length) done += writeSync(fd, bytes, done, length - done, offset + done);
}

/** Reads a whole block back. */
export function readBlock(fd: number, offset: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  assert.equal(readSync(fd, block, 0, BLOCK, offset), BLOCK, 'a block that was written can be read');
  return block;
}
