import { createHash, type Hash, randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Digest, digestToBytes } from '../dataset/digest.ts';
import type { Entry } from '../dataset/entry.ts';
import { bitsFor, DIGEST_BYTES, HEADER_BYTES, headerBytes, highOf, KEY_BYTES, lowOf } from './stage-map-format.ts';

/** Of each key: the upper and the lower half of its id, the segment, the size (low and high 32 bits). */
const RECORD = 5;

/** Records sorted in memory at once: 36 bytes each while they are. More are sorted by parts, in a file beside the map's. */
const PART = 1_000_000;

/** Records of each part that are read ahead while parts are merged, and keys written at once. */
const BLOCK = 8_192;

/** Gathers a map while a version's entries go by. Every call is synchronous: it belongs on a worker thread, but for small versions. */
export class StageMapBuilder implements Disposable {
  readonly #file: string;
  readonly #temporary: string;
  readonly #part: number;
  readonly #segments: Digest[] = [];
  #records: Uint32Array;
  #length = 0;
  #total = 0;
  /** Where the parts lie one after the other, once there is one; and how many records each has. */
  #spilled: number | undefined;
  readonly #parts: number[] = [];

  /** @param file where the map will be: it appears there whole, with `finish` */
  constructor(file: string, { part = PART }: { readonly part?: number } = {}) {
    this.#file = file;
    this.#temporary = `${file}.${process.pid}-${randomBytes(6).toString('hex')}.tmp`;
    this.#part = part;
    this.#records = new Uint32Array(Math.min(part, 1024) * RECORD);
  }

  /** Segments come in the manifest's order, each with all its entries, or in several calls one after the other. */
  add(segment: Digest, entries: readonly Entry[]): void {
    if (this.#segments.at(-1) !== segment) this.#segments.push(segment);
    const ordinal = this.#segments.length - 1;
    for (const entry of entries) {
      if (entry.type !== 'file' || entry.content.kind === 'inline') continue;
      const { id } = entry.content;
      const at = this.#place();
      const records = this.#records;
      records[at] = highOf(id);
      records[at + 1] = lowOf(id);
      records[at + 2] = ordinal;
      records[at + 3] = entry.size;
      records[at + 4] = entry.size / 0x1_0000_0000;
    }
  }

  /**
   * Writes the file; it is on the disk when this returns.
   * @param root the manifest's root digest
   */
  finish(root: Digest): void {
    const bits = bitsFor(this.#total);
    const output = new KeyWriter(this.#temporary, bits);
    try {
      if (this.#spilled === undefined) {
        const records = this.#records;
        for (const place of this.#sorted()) output.add(records, place * RECORD);
      } else {
        this.#spill();
        this.#merge(this.#spilled, output);
      }
      const names = Buffer.concat(this.#segments.map((segment) => digestToBytes(segment)));
      output.finish(names, this.#segments.length, root);
    } catch (error) {
      output.abort();
      throw error;
    } finally {
      this[Symbol.dispose]();
    }
    renameSync(this.#temporary, this.#file);
    const directory = openSync(dirname(this.#file), 'r');
    try {
      fsyncSync(directory);
    } finally {
      closeSync(directory);
    }
  }

  /** Gives up what lies in memory and on the disk. After `finish`, there is nothing. */
  [Symbol.dispose](): void {
    this.#records = new Uint32Array(0);
    if (this.#spilled !== undefined) closeSync(this.#spilled);
    this.#spilled = undefined;
  }

  #place(): number {
    if (this.#length === this.#part) this.#spill();
    const at = this.#length * RECORD;
    if (at === this.#records.length) {
      const larger = new Uint32Array(Math.min(this.#part * RECORD, this.#records.length * 2));
      larger.set(this.#records);
      this.#records = larger;
    }
    this.#length += 1;
    this.#total += 1;
    return at;
  }

  #spill(): void {
    if (this.#spilled === undefined) {
      const name = this.#temporary.replace(/\.tmp$/, '-parts.tmp');
      this.#spilled = openSync(name, 'wx+', 0o600);
      rmSync(name);
    }
    const records = this.#records;
    const block = new Uint32Array(BLOCK * RECORD);
    let filled = 0;
    const write = () => {
      writeFully(this.#spilled!, new Uint8Array(block.buffer, 0, filled * 4));
      filled = 0;
    };
    for (const place of this.#sorted()) {
      block.set(records.subarray(place * RECORD, (place + 1) * RECORD), filled);
      filled += RECORD;
      if (filled === block.length) write();
    }
    write();
    this.#parts.push(this.#length);
    this.#length = 0;
  }

  #sorted(): Uint32Array {
    return sortedPlaces(this.#records.subarray(0, this.#length * RECORD));
  }

  /** Equal keys come in the order of their parts, and so of their segments. */
  #merge(descriptor: number, output: KeyWriter): void {
    let start = 0;
    const parts = this.#parts.map((records) => {
      const part = new PartReader(descriptor, start, records);
      start += records;
      return part;
    });
    for (;;) {
      let least: PartReader | undefined;
      for (const part of parts) if (!part.ended && (least === undefined || part.isBefore(least))) least = part;
      if (least === undefined) return;
      output.add(least.records, least.at);
      least.next();
    }
  }
}

/** Goes through one sorted part. */
class PartReader {
  readonly records = new Uint32Array(BLOCK * RECORD);
  /** Of the current record. */
  at = 0;
  #end = 0;
  #from: number;
  #left: number;
  readonly #descriptor: number;

  constructor(descriptor: number, from: number, records: number) {
    this.#descriptor = descriptor;
    this.#from = from;
    this.#left = records;
    this.#fill();
  }

  get ended(): boolean {
    return this.at >= this.#end;
  }

  isBefore(other: PartReader): boolean {
    const high = this.records[this.at]!;
    const otherHigh = other.records[other.at]!;
    return high < otherHigh || (high === otherHigh && this.records[this.at + 1]! < other.records[other.at + 1]!);
  }

  next(): void {
    this.at += RECORD;
    if (this.ended) this.#fill();
  }

  #fill(): void {
    const count = Math.min(BLOCK, this.#left);
    const bytes = new Uint8Array(this.records.buffer, 0, count * RECORD * 4);
    for (let done = 0; done < bytes.length; ) {
      const read = readSync(this.#descriptor, bytes, done, bytes.length - done, this.#from * RECORD * 4 + done);
      if (read === 0) throw new Error('a part that was written cannot be read back');
      done += read;
    }
    this.#from += count;
    this.#left -= count;
    this.at = 0;
    this.#end = count * RECORD;
  }
}

/** Takes sorted records, leaves out those that say the same again, and writes the rest. */
class KeyWriter {
  readonly #descriptor: number;
  readonly #file: string;
  readonly #bits: number;
  readonly #runs: Uint32Array;
  readonly #hash: Hash = createHash('sha256');
  readonly #block = new DataView(new ArrayBuffer(BLOCK * KEY_BYTES));
  #filled = 0;
  #written = HEADER_BYTES;
  #keys = 0;
  #objects = 0;
  #bytes = 0;
  #high = 0;
  #low = 0;
  #segment = -1;

  constructor(file: string, bits: number) {
    this.#file = file;
    this.#bits = bits;
    this.#runs = new Uint32Array(2 ** bits + 1);
    this.#descriptor = openSync(file, 'wx', 0o644);
  }

  add(records: Uint32Array, at: number): void {
    const high = records[at]!;
    const low = records[at + 1]!;
    const segment = records[at + 2]!;
    const again = this.#segment >= 0 && high === this.#high && low === this.#low;
    if (again && segment === this.#segment) return;
    if (!again) {
      this.#objects += 1;
      this.#bytes += records[at + 3]! + records[at + 4]! * 0x1_0000_0000;
    }
    this.#high = high;
    this.#low = low;
    this.#segment = segment;
    this.#block.setUint32(this.#filled, high);
    this.#block.setUint32(this.#filled + 4, low);
    this.#block.setUint32(this.#filled + 8, segment, true);
    this.#filled += KEY_BYTES;
    this.#keys += 1;
    // Counts for now; made sums at the end.
    this.#runs[(this.#bits === 0 ? 0 : high >>> (32 - this.#bits)) + 1]! += 1;
    if (this.#filled === this.#block.byteLength) this.#flush();
  }

  finish(names: Buffer, segments: number, root: Digest): void {
    this.#flush();
    const runs = this.#runs;
    for (let at = 1; at < runs.length; at += 1) runs[at]! += runs[at - 1]!;
    const head = headerBytes({
      keys: this.#keys,
      segments,
      bits: this.#bits,
      root,
      objects: this.#objects,
      objectBytes: this.#bytes,
      keysChecksum: this.#hash.digest(),
    });
    const runBytes = new Uint8Array(runs.buffer);
    const checksum = createHash('sha256').update(head).update(names).update(runBytes).digest();
    writeFully(this.#descriptor, names, this.#written);
    writeFully(this.#descriptor, runBytes, this.#written + segments * DIGEST_BYTES);
    writeFully(this.#descriptor, Buffer.concat([head, checksum]), 0);
    fsyncSync(this.#descriptor);
    closeSync(this.#descriptor);
  }

  abort(): void {
    closeSync(this.#descriptor);
    rmSync(this.#file, { force: true });
  }

  #flush(): void {
    const bytes = new Uint8Array(this.#block.buffer, 0, this.#filled);
    this.#hash.update(bytes);
    writeFully(this.#descriptor, bytes, this.#written);
    this.#written += bytes.length;
    this.#filled = 0;
  }
}

/**
 * The places of records in ascending order of their keys; equal keys keep their order. One native sort of 64-bit numbers made of
 * upper half and place, then the few runs that share an upper half by their lower.
 */
function sortedPlaces(records: Uint32Array): Uint32Array {
  const length = records.length / RECORD;
  const numbers = new BigUint64Array(length);
  const pairs = new Uint32Array(numbers.buffer);
  for (let at = 0; at < length; at += 1) {
    pairs[2 * at] = at;
    pairs[2 * at + 1] = records[at * RECORD]!;
  }
  numbers.sort();
  for (let from = 0; from < length; ) {
    const upper = pairs[2 * from + 1];
    let to = from + 1;
    while (to < length && pairs[2 * to + 1] === upper) to += 1;
    if (to - from > 1) {
      const places = Uint32Array.from({ length: to - from }, (_, at) => pairs[2 * (from + at)]!);
      places.sort((a, b) => records[a * RECORD + 1]! - records[b * RECORD + 1]! || a - b);
      places.forEach((place, at) => {
        pairs[2 * (from + at)] = place;
      });
    }
    from = to;
  }
  // The numbers are read from the front as the places are written there, which are half as many bytes.
  for (let at = 0; at < length; at += 1) pairs[at] = pairs[2 * at]!;
  return pairs.subarray(0, length);
}

/** @param position where the descriptor stands, when it is not said */
function writeFully(descriptor: number, bytes: Uint8Array, position?: number): void {
  for (let at = 0; at < bytes.length; ) {
    at += writeSync(descriptor, bytes, at, bytes.length - at, position === undefined ? null : position + at);
  }
}
