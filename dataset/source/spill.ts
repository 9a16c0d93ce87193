import { closeSync, mkdtempSync, openSync, readSync, rmdirSync, unlinkSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deserialize, serialize } from 'node:v8';

/** Where values lie in a spill file. */
export interface SpillBlock {
  readonly offset: number;
  /** In bytes. */
  readonly length: number;
  /** Values in it. */
  readonly count: number;
}

/**
 * A temporary file for values that memory is too small for: plain objects of strings, numbers and Buffers. It has no name as soon
 * as it is open, so that a crash leaves nothing. Calls are synchronous: a block is a few hundred kilobytes.
 */
export class SpillFile implements Disposable {
  readonly #directory: string;
  #fd: number | undefined;
  #end = 0;
  #blocks = 0;

  constructor(directory = tmpdir()) {
    this.#directory = directory;
  }

  write(values: readonly unknown[]): SpillBlock {
    this.#fd ??= openNameless(this.#directory);
    const bytes = serialize(values);
    const block: SpillBlock = { offset: this.#end, length: bytes.length, count: values.length };
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at, bytes.length - at, block.offset + at);
    this.#end += bytes.length;
    this.#blocks++;
    return block;
  }

  read<T>({ offset, length }: SpillBlock): T[] {
    const bytes = Buffer.allocUnsafeSlow(length);
    for (let at = 0; at < length; ) {
      const read = readSync(this.#fd!, bytes, at, length - at, offset + at);
      if (read === 0) throw new Error('a temporary file ended early');
      at += read;
    }
    return deserialize(bytes) as T[];
  }

  /** The block is not needed any more; once none is, the room is used again. */
  free(): void {
    this.#blocks--;
    if (this.#blocks === 0) this.#end = 0;
  }

  [Symbol.dispose](): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

function openNameless(directory: string): number {
  const folder = mkdtempSync(join(directory, 'larder-'));
  const file = join(folder, 'spill');
  const fd = openSync(file, 'wx+', 0o600);
  unlinkSync(file);
  rmdirSync(folder);
  return fd;
}

/** First in, first out, with a bounded number of values in memory. */
export class SpillQueue<T> {
  readonly #file: SpillFile;
  readonly #step: number;
  #head: T[] = [];
  #at = 0;
  #blocks: SpillBlock[] = [];
  #tail: T[] = [];

  /** @param step values that are written and read together; the queue holds two times as many in memory */
  constructor(file: SpillFile, step: number) {
    this.#file = file;
    this.#step = step;
  }

  /** The oldest value; undefined where there is none. */
  get first(): T | undefined {
    if (this.#at >= this.#head.length) this.#refill();
    return this.#head[this.#at];
  }

  push(value: T): void {
    this.#tail.push(value);
    if (this.#tail.length < this.#step) return;
    if (this.#at >= this.#head.length && this.#blocks.length === 0) this.#refill();
    else {
      this.#blocks.push(this.#file.write(this.#tail));
      this.#tail = [];
    }
  }

  shift(): void {
    this.#at++;
  }

  #refill(): void {
    this.#at = 0;
    const block = this.#blocks.shift();
    if (block !== undefined) {
      this.#head = this.#file.read(block);
      this.#file.free();
    } else {
      this.#head = this.#tail;
      this.#tail = [];
    }
  }
}
