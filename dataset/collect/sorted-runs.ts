import { closeSync, mkdtempSync, openSync, readSync, rmdirSync, unlinkSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface SortedRunsOptions {
  /** Bytes of every record. */
  readonly width: number;
  /** Bytes of records that are held before they are sorted and written out. */
  readonly memory?: number;
  /** Where the files are; the system's temporary directory if not said. They have no names there, and so go with the process. */
  readonly directory?: string;
}

const MEMORY = 4 << 20;
/** Runs that are read side by side; beyond this they are made one. */
const RUNS = 64;
/** Bytes read at once of each run. */
const BLOCK = 64 << 10;

interface Run {
  readonly file: number;
  readonly bytes: number;
}

/**
 * A set of records of one width, of which any number may be added, read in byte order, each once. Memory does not grow with it: sorted runs lie on disk
 * and are merged when they are read. Records that are added while it is read come with the next reading.
 */
export class SortedRuns implements Disposable {
  readonly width: number;
  readonly #directory: string;
  readonly #buffer: Buffer;
  #used = 0;
  #runs: Run[] = [];
  readonly #files = new Set<number>();
  #order: Uint32Array | undefined;
  /** The first six bytes of each record: digests hardly ever share them. */
  #heads: Float64Array | undefined;
  #block: Buffer | undefined;

  constructor({ width, memory = MEMORY, directory = tmpdir() }: SortedRunsOptions) {
    this.width = width;
    this.#directory = directory;
    this.#buffer = Buffer.allocUnsafeSlow(Math.max(1, Math.floor(memory / width)) * width);
  }

  /** Takes a copy. */
  add(record: Uint8Array): void {
    if (this.#used === this.#buffer.length) this.#spill();
    this.#buffer.set(record, this.#used);
    this.#used += this.width;
  }

  addHex(digest: string): void {
    if (this.#used === this.#buffer.length) this.#spill();
    this.#buffer.write(digest, this.#used, 'hex');
    this.#used += this.width;
  }

  /** Each record once, in byte order; its bytes are good until the next. */
  *read(): Generator<Buffer> {
    if (this.#used > 0) this.#spill();
    if (this.#runs.length > RUNS) this.#join();
    yield* merge([...this.#runs], this.width);
  }

  [Symbol.dispose](): void {
    for (const file of this.#files) closeSync(file);
    this.#files.clear();
    this.#runs = [];
    this.#used = 0;
  }

  #spill(): void {
    const file = this.#create();
    this.#writeSorted(file);
    this.#runs.push({ file, bytes: this.#used });
    this.#used = 0;
    if (this.#runs.length > RUNS * 2) this.#join();
  }

  /** What is held, in order; some may still be there twice. */
  #writeSorted(file: number): void {
    const { width } = this;
    const records = this.#buffer;
    const count = this.#used / width;
    // Kept for the next time: fresh memory of this size would pile up until it is collected.
    this.#order ??= new Uint32Array(records.length / width);
    this.#heads ??= new Float64Array(records.length / width);
    this.#block ??= Buffer.allocUnsafeSlow(Math.max(1, Math.floor(BLOCK / width)) * width);
    const order = this.#order.subarray(0, count);
    const heads = this.#heads;
    const block = this.#block;
    const headBytes = Math.min(6, width);
    for (let i = 0; i < count; i++) {
      order[i] = i;
      heads[i] = records.readUIntBE(i * width, headBytes);
    }
    order.sort(
      (a, b) =>
        heads[a]! - heads[b]! || records.compare(records, b * width, (b + 1) * width, a * width, (a + 1) * width),
    );
    let filled = 0;
    for (const at of order) {
      records.copy(block, filled, at * width, (at + 1) * width);
      filled += width;
      if (filled < block.length) continue;
      writeAll(file, block);
      filled = 0;
    }
    writeAll(file, block.subarray(0, filled));
  }

  /** The files of the old runs stay open: somebody may be reading them. */
  #join(): void {
    const file = this.#create();
    const block = Buffer.allocUnsafe(Math.max(1, Math.floor((1 << 20) / this.width)) * this.width);
    let bytes = 0;
    let filled = 0;
    for (const record of merge(this.#runs, this.width)) {
      block.set(record, filled);
      filled += this.width;
      if (filled < block.length) continue;
      writeAll(file, block);
      bytes += filled;
      filled = 0;
    }
    writeAll(file, block.subarray(0, filled));
    this.#runs = [{ file, bytes: bytes + filled }];
  }

  #create(): number {
    const folder = mkdtempSync(join(this.#directory, 'larder-sort-'));
    const path = join(folder, 'run');
    const file = openSync(path, 'wx+', 0o600);
    unlinkSync(path);
    rmdirSync(folder);
    this.#files.add(file);
    return file;
  }
}

/** What `records` has and `others` has not; both sorted. */
export function* difference(records: Iterable<Buffer>, others: Iterable<Buffer>): Generator<Buffer> {
  const isIn = follow(others);
  for (const record of records) if (!isIn(record)) yield record;
}

/** Tells of one record after another, in byte order, whether `sorted` has it: each costs only the way on from the one before. */
export function follow(sorted: Iterable<Buffer>): (record: Uint8Array) => boolean {
  const others = sorted[Symbol.iterator]();
  let next = others.next();
  return (record) => {
    for (;;) {
      if (next.done) return false;
      const order = Buffer.compare(next.value, record);
      if (order >= 0) return order === 0;
      next = others.next();
    }
  };
}

function writeAll(file: number, bytes: Buffer): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
}

/** Reads one run, block by block. */
class RunReader {
  readonly #run: Run;
  readonly #width: number;
  readonly #block: Buffer;
  #at = 0;
  #length = 0;
  #offset = 0;
  current: Buffer | undefined;

  constructor(run: Run, width: number) {
    this.#run = run;
    this.#width = width;
    this.#block = Buffer.allocUnsafe(Math.max(width, BLOCK - (BLOCK % width)));
    this.advance();
  }

  advance(): void {
    if (this.#offset === this.#length && !this.#fill()) {
      this.current = undefined;
      return;
    }
    this.current = this.#block.subarray(this.#offset, this.#offset + this.#width);
    this.#offset += this.#width;
  }

  #fill(): boolean {
    const wanted = Math.min(this.#block.length, this.#run.bytes - this.#at);
    for (let done = 0; done < wanted; ) {
      const got = readSync(this.#run.file, this.#block, done, wanted - done, this.#at + done);
      if (got === 0) throw new Error('a temporary file became shorter while it was read');
      done += got;
    }
    this.#at += wanted;
    this.#length = wanted;
    this.#offset = 0;
    return wanted > 0;
  }
}

function* merge(runs: readonly Run[], width: number): Generator<Buffer> {
  // A heap by each run's current record.
  const heap = runs.map((run) => new RunReader(run, width)).filter((reader) => reader.current !== undefined);
  const sink = (from: number) => {
    for (let i = from; ; ) {
      let least = i;
      for (const child of [2 * i + 1, 2 * i + 2])
        if (child < heap.length && heap[child]!.current!.compare(heap[least]!.current!) < 0) least = child;
      if (least === i) return;
      [heap[i], heap[least]] = [heap[least]!, heap[i]!];
      i = least;
    }
  };
  for (let i = (heap.length >> 1) - 1; i >= 0; i--) sink(i);
  const last = Buffer.alloc(width);
  let any = false;
  while (heap.length > 0) {
    const top = heap[0]!;
    if (!any || !last.equals(top.current!)) {
      last.set(top.current!);
      any = true;
      yield last;
    }
    top.advance();
    if (top.current === undefined) {
      const end = heap.pop()!;
      if (heap.length === 0) return;
      if (end !== top) heap[0] = end;
    }
    sink(0);
  }
}
