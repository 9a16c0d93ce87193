import { createHash, timingSafeEqual } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { type Digest, digestFromBytes, digestToBytes } from '../dataset/digest.ts';
import type { Entry } from '../dataset/entry.ts';
import { CorruptError, InvalidError } from '../dataset/errors.ts';

/**
 * For one version: in which leaf segment of its manifest a content id stands. A request of the ring carries a content id and
 * nothing else; the segment's entries and locations tell the rest.
 *
 * The file, integers little-endian (N keys, S segments):
 *
 *     offset        bytes  what
 *     0             8      "LARDERSM"
 *     8             4      format: 1
 *     12            4      N
 *     16            4      S
 *     20            4      0
 *     24            32     the manifest's root digest
 *     56            8      how many distinct contents
 *     64            8      their sizes together, in bytes
 *     72            32·S   segment digests, in the manifest's order
 *     72+32·S       4·N    bytes 0 to 3 of each key's content id, as a big-endian number
 *     …             4·N    bytes 4 to 7
 *     …             4·N    index of the segment
 *     …             32     SHA-256 of everything before
 *
 * Keys are sorted. Eight bytes of an id do not prove it: a key may stand for several ids (and an id for several segments), so a
 * lookup gives candidates, and the segment's entries decide.
 */
const MAGIC = 'LARDERSM';
const FORMAT = 1;
const HEADER_BYTES = 72;
const DIGEST_BYTES = 32;

export class StageMap {
  /** The manifest's root: what the map was made from. */
  readonly root: Digest;
  readonly segments: readonly Digest[];
  /** Distinct contents of the version's files, those inline in the manifest left out. */
  readonly objects: number;
  /** What these contents take, in bytes; holes count. */
  readonly objectBytes: number;
  /** The whole file. Shared memory, so that worker threads search it in place. */
  readonly bytes: SharedArrayBuffer;
  readonly #high: Uint32Array;
  readonly #low: Uint32Array;
  readonly #segment: Uint32Array;

  /** Takes bytes that are known to be right: `decodeStageMap` checks those that are not. */
  constructor(bytes: SharedArrayBuffer) {
    const [keys, segments] = new Uint32Array(bytes, 12, 2) as unknown as [number, number];
    const view = new Uint8Array(bytes);
    this.bytes = bytes;
    this.root = digestFromBytes(view, 24);
    this.objects = Number(Buffer.from(bytes).readBigUInt64LE(56));
    this.objectBytes = Number(Buffer.from(bytes).readBigUInt64LE(64));
    this.segments = Array.from({ length: segments }, (_, at) =>
      digestFromBytes(view, HEADER_BYTES + at * DIGEST_BYTES),
    );
    const start = HEADER_BYTES + segments * DIGEST_BYTES;
    this.#high = new Uint32Array(bytes, start, keys);
    this.#low = new Uint32Array(bytes, start + 4 * keys, keys);
    this.#segment = new Uint32Array(bytes, start + 8 * keys, keys);
  }

  /** How many keys it holds. */
  get size(): number {
    return this.#high.length;
  }

  /** False: no file of the version has this content. True: one has, or (once in 2^64 divided by `size`) another id looks alike. */
  has(id: Digest): boolean {
    return this.#first(highOf(id), lowOf(id)) >= 0;
  }

  /** A number below `size` that stands for the content; -1 where `has` says no. */
  position(id: Digest): number {
    return this.#first(highOf(id), lowOf(id));
  }

  /** Every key, in order: the first 16 digits of a content id. */
  *prefixes(): Generator<string> {
    for (let at = 0; at < this.#high.length; at += 1) {
      if (at > 0 && this.#high[at] === this.#high[at - 1] && this.#low[at] === this.#low[at - 1]) continue;
      yield hexOf(this.#high[at]!) + hexOf(this.#low[at]!);
    }
  }

  /** The segments in which the content may stand, in the manifest's order. */
  candidates(id: Digest): Digest[] {
    const high = highOf(id);
    const low = lowOf(id);
    const found: Digest[] = [];
    const first = this.#first(high, low);
    for (let at = first; at >= 0 && this.#high[at] === high && this.#low[at] === low; at += 1) {
      found.push(this.segments[this.#segment[at]!]!);
    }
    return found;
  }

  #first(high: number, low: number): number {
    let from = 0;
    let to = this.#high.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      const there = this.#high[middle]!;
      if (there < high || (there === high && this.#low[middle]! < low)) from = middle + 1;
      else to = middle;
    }
    return this.#high[from] === high && this.#low[from] === low ? from : -1;
  }
}

/** Numbers kept for each key beside the upper half of its id: lower half, segment, size (low and high 32 bits). */
const RECORD = 4;

/** Gathers a map while a version's entries go by. */
export class StageMapBuilder {
  readonly #segments: Digest[] = [];
  #high = new Uint32Array(1024);
  #records = new Uint32Array(1024 * RECORD);
  #length = 0;

  /** Segments come in the manifest's order, each with all its entries, or in several calls one after the other. */
  add(segment: Digest, entries: readonly Entry[]): void {
    if (this.#segments.at(-1) !== segment) this.#segments.push(segment);
    const ordinal = this.#segments.length - 1;
    this.#reserve(entries.length);
    const high = this.#high;
    const records = this.#records;
    let length = this.#length;
    for (const entry of entries) {
      if (entry.type !== 'file' || entry.content.kind === 'inline') continue;
      const { id } = entry.content;
      const at = length * RECORD;
      high[length] = highOf(id);
      records[at] = lowOf(id);
      records[at + 1] = ordinal;
      records[at + 2] = entry.size;
      records[at + 3] = entry.size / 0x1_0000_0000;
      length += 1;
    }
    this.#length = length;
  }

  /** @param root the manifest's root digest */
  finish(root: Digest): StageMap {
    const keys = this.#sorted();
    const count = keys.high.length;
    const segments = this.#segments.length;
    const start = HEADER_BYTES + segments * DIGEST_BYTES;
    const bytes = new SharedArrayBuffer(start + 12 * count + DIGEST_BYTES);
    const view = Buffer.from(bytes);
    view.write(MAGIC, 0, 'latin1');
    new Uint32Array(bytes, 8, 4).set([FORMAT, count, segments, 0]);
    view.set(digestToBytes(root), 24);
    view.writeBigUInt64LE(BigInt(keys.objects), 56);
    view.writeBigUInt64LE(BigInt(keys.bytes), 64);
    this.#segments.forEach((segment, at) => {
      view.set(digestToBytes(segment), HEADER_BYTES + at * DIGEST_BYTES);
    });
    new Uint32Array(bytes, start, count).set(keys.high);
    new Uint32Array(bytes, start + 4 * count, count).set(keys.low);
    new Uint32Array(bytes, start + 8 * count, count).set(keys.segment);
    view.set(checksum(view), view.length - DIGEST_BYTES);
    return new StageMap(bytes);
  }

  /** The keys in order, those that come twice with one segment once. */
  #sorted() {
    const records = this.#records;
    const sorted = sortKeys(this.#high.subarray(0, this.#length), records);
    const high = new Uint32Array(this.#length);
    const low = new Uint32Array(this.#length);
    const segment = new Uint32Array(this.#length);
    let kept = 0;
    let objects = 0;
    let bytes = 0;
    for (let at = 0; at < sorted.length; at += 2) {
      const record = sorted[at]! * RECORD;
      const upper = sorted[at + 1]!;
      const lower = records[record]!;
      const ordinal = records[record + 1]!;
      const again = kept > 0 && upper === high[kept - 1] && lower === low[kept - 1];
      if (again && ordinal === segment[kept - 1]) continue;
      if (!again) {
        objects += 1;
        bytes += records[record + 2]! + records[record + 3]! * 0x1_0000_0000;
      }
      high[kept] = upper;
      low[kept] = lower;
      segment[kept] = ordinal;
      kept += 1;
    }
    const part = (array: Uint32Array) => array.subarray(0, kept);
    return { high: part(high), low: part(low), segment: part(segment), objects, bytes };
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#high.length) return;
    const length = Math.max(this.#length + count, this.#high.length * 2);
    const high = new Uint32Array(length);
    const records = new Uint32Array(length * RECORD);
    high.set(this.#high);
    records.set(this.#records);
    this.#high = high;
    this.#records = records;
  }
}

/**
 * Reads a map from its file.
 * @param root what it must have been made from
 * @throws CorruptError if the file is damaged, InvalidError if it is another manifest's: in both cases build it anew
 */
export function loadStageMap(file: string, root: Digest): StageMap {
  const descriptor = openSync(file, 'r');
  try {
    const bytes = new SharedArrayBuffer(fstatSync(descriptor).size);
    const view = Buffer.from(bytes);
    let at = 0;
    while (at < view.length) {
      const read = readSync(descriptor, view, at, view.length - at, at);
      if (read === 0) break;
      at += read;
    }
    return decodeStageMap(bytes, root, file);
  } finally {
    closeSync(descriptor);
  }
}

/** @param name for messages */
export function decodeStageMap(bytes: SharedArrayBuffer, root: Digest, name: string): StageMap {
  const view = Buffer.from(bytes);
  const fault = (what: string) =>
    new CorruptError(`the stage map ${name} is damaged: ${what}`, { facts: { file: name } });
  if (view.length < HEADER_BYTES + DIGEST_BYTES) throw fault(`it has ${view.length} bytes`);
  if (view.toString('latin1', 0, 8) !== MAGIC) throw fault('it does not begin as a stage map does');
  if (view.readUInt32LE(8) !== FORMAT) throw fault(`its format is ${view.readUInt32LE(8)}`);
  const expected = HEADER_BYTES + view.readUInt32LE(16) * DIGEST_BYTES + view.readUInt32LE(12) * 12 + DIGEST_BYTES;
  if (view.length !== expected) throw fault(`it has ${view.length} bytes where its header says ${expected}`);
  if (!timingSafeEqual(checksum(view), view.subarray(view.length - DIGEST_BYTES))) throw fault('its checksum differs');
  const map = new StageMap(bytes);
  if (map.root !== root)
    throw new InvalidError(`the stage map ${name} belongs to the manifest ${map.root}, not ${root}`);
  return map;
}

function checksum(view: Buffer): Buffer {
  return createHash('sha256')
    .update(view.subarray(0, view.length - DIGEST_BYTES))
    .digest();
}

/**
 * Pairs of a key's place and the upper half of its id, in ascending order of the keys; equal keys keep their order. One native sort
 * of 64-bit numbers made of upper half and place, then the few runs that share an upper half by their lower.
 */
function sortKeys(high: Uint32Array, records: Uint32Array): Uint32Array {
  const { length } = high;
  const numbers = new BigUint64Array(length);
  const pairs = new Uint32Array(numbers.buffer);
  for (let at = 0; at < length; at += 1) {
    pairs[2 * at] = at;
    pairs[2 * at + 1] = high[at]!;
  }
  numbers.sort();
  for (let from = 0; from < length; ) {
    const upper = pairs[2 * from + 1];
    let to = from + 1;
    while (to < length && pairs[2 * to + 1] === upper) to += 1;
    if (to - from > 1) {
      const places = Uint32Array.from({ length: to - from }, (_, at) => pairs[2 * (from + at)]!);
      places.sort((a, b) => records[a * RECORD]! - records[b * RECORD]! || a - b);
      places.forEach((place, at) => {
        pairs[2 * (from + at)] = place;
      });
    }
    from = to;
  }
  return pairs;
}

function highOf(id: Digest): number {
  return hexNumber(id, 0);
}

function lowOf(id: Digest): number {
  return hexNumber(id, 8);
}

/** Eight hexadecimal digits as a number, without a substring of their own. */
function hexNumber(id: string, start: number): number {
  let value = 0;
  for (let at = start; at < start + 8; at += 1) {
    const code = id.charCodeAt(at);
    value = (value << 4) | (code < 58 ? code - 48 : code - 87);
  }
  return value >>> 0;
}

function hexOf(value: number): string {
  return value.toString(16).padStart(8, '0');
}
