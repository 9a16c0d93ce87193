import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { setImmediate as breathe } from 'node:timers/promises';
import { type Digest, digestFromBytes } from '../dataset/digest.ts';
import { CorruptError, InvalidError } from '../dataset/errors.ts';
import {
  DIGEST_BYTES,
  HEADER_BYTES,
  highOf,
  KEY_BYTES,
  lowOf,
  readHeader,
  type StageMapHeader,
} from './stage-map-format.ts';

/** Keys read and searched at once; more are halved first. */
const BLOCK_KEYS = 1024;

/** Keys read at once by who goes through all of them. */
const SWEEP_KEYS = 16_384;

/**
 * For one version: in which leaf segment of its manifest a content id stands. A request of the ring carries a content id and
 * nothing else; the segment's entries and locations tell the rest.
 *
 * It is searched where it lies, in its file: memory holds the segments' names and where runs of some hundred keys begin (56 bytes
 * for each thousand keys), and a lookup reads one run. Whoever searches needs a StageMap of its own thread, made from the same file.
 *
 * Eight bytes of an id do not prove it: a key may stand for several ids (and an id for several segments), so a lookup gives
 * candidates, and the segment's entries decide.
 */
export class StageMap {
  readonly file: string;
  /** The manifest's root: what the map was made from. */
  readonly root: Digest;
  /** Distinct contents of the version's files, those inline in the manifest left out. */
  readonly objects: number;
  /** What these contents take, in bytes; holes count. */
  readonly objectBytes: number;
  /** How many keys it holds. */
  readonly size: number;
  readonly #open: OpenFile;
  readonly #checksum: Buffer;
  readonly #names: Uint8Array;
  /** The place of the first key of each run, and after the last run their number. */
  readonly #runs: Uint32Array;
  readonly #shift: number;
  #segments: readonly Digest[] | undefined;
  /** Keys `#from` to `#to` are in `#block`. */
  #block: DataView = new DataView(new ArrayBuffer((BLOCK_KEYS + 1) * KEY_BYTES));
  #from = 0;
  #to = 0;

  /** Opened by `loadStageMap`. */
  constructor(file: string, open: OpenFile, header: StageMapHeader, names: Uint8Array, runs: Uint32Array) {
    this.file = file;
    this.root = header.root;
    this.objects = header.objects;
    this.objectBytes = header.objectBytes;
    this.size = header.keys;
    this.#open = open;
    this.#checksum = header.keysChecksum;
    this.#names = names;
    this.#runs = runs;
    this.#shift = 32 - header.bits;
    letGo.register(this, open);
  }

  /** Every leaf segment, in the manifest's order. */
  get segments(): readonly Digest[] {
    this.#segments ??= Array.from({ length: this.#names.length / DIGEST_BYTES }, (_, at) => this.#segment(at));
    return this.#segments;
  }

  /** False: no file of the version has this content. True: one has, or (once in 2^64 divided by `size`) another id looks alike. */
  has(id: Digest): boolean {
    return this.position(id) >= 0;
  }

  /** A number below `size` that stands for the content; -1 where `has` says no. */
  position(id: Digest): number {
    const high = highOf(id);
    const low = lowOf(id);
    const run = this.#shift === 32 ? 0 : high >>> this.#shift;
    let from = this.#runs[run]!;
    let to = this.#runs[run + 1]!;
    while (to - from > BLOCK_KEYS) {
      const middle = (from + to) >>> 1;
      this.#load(middle, middle + 1);
      if (this.#isBelow(middle, high, low)) from = middle + 1;
      else to = middle;
    }
    // The key sought may be the one that `to` stopped at.
    const end = Math.min(this.#runs[run + 1]!, to + 1);
    if (from >= end) return -1;
    this.#load(from, Math.min(end, from + BLOCK_KEYS + 1));
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (this.#isBelow(middle, high, low)) from = middle + 1;
      else to = middle;
    }
    return from < end && this.#is(from, high, low) ? from : -1;
  }

  /** The segments in which the content may stand, in the manifest's order. */
  candidates(id: Digest): Digest[] {
    const high = highOf(id);
    const low = lowOf(id);
    const found: Digest[] = [];
    const first = this.position(id);
    if (first < 0) return found;
    for (let at = first; at < this.size; at += 1) {
      if (at >= this.#to) this.#load(at, Math.min(this.size, at + BLOCK_KEYS));
      if (!this.#is(at, high, low)) break;
      found.push(this.#segment(this.#block.getUint32((at - this.#from) * KEY_BYTES + 8, true)));
    }
    return found;
  }

  /** Every key, in order: the first 16 digits of a content id. */
  *prefixes(): Generator<string> {
    const block = Buffer.alloc(SWEEP_KEYS * KEY_BYTES);
    let last = '';
    for (let from = 0; from < this.size; from += SWEEP_KEYS) {
      const keys = Math.min(SWEEP_KEYS, this.size - from);
      this.#open.read(block, keys * KEY_BYTES, HEADER_BYTES + from * KEY_BYTES);
      for (let at = 0; at < keys; at += 1) {
        const prefix = block.toString('hex', at * KEY_BYTES, at * KEY_BYTES + 8);
        if (prefix !== last) yield prefix;
        last = prefix;
      }
    }
  }

  /** Reads all of it, a little at a time. Errors: CorruptError where it is not what was written. */
  async check(signal?: AbortSignal): Promise<void> {
    const hash = createHash('sha256');
    const block = Buffer.alloc(SWEEP_KEYS * KEY_BYTES);
    for (let from = 0; from < this.size; from += SWEEP_KEYS) {
      const bytes = Math.min(SWEEP_KEYS, this.size - from) * KEY_BYTES;
      this.#open.read(block, bytes, HEADER_BYTES + from * KEY_BYTES);
      hash.update(block.subarray(0, bytes));
      await breathe(undefined, { signal });
    }
    if (!hash.digest().equals(this.#checksum)) throw damaged(this.file, 'the checksum of its keys differs');
  }

  /** Closes its file at once, which otherwise happens when nothing refers to the map. It cannot be searched any more. */
  close(): void {
    this.#open.close();
    letGo.unregister(this.#open);
  }

  #segment(at: number): Digest {
    return digestFromBytes(this.#names, at * DIGEST_BYTES);
  }

  #isBelow(at: number, high: number, low: number): boolean {
    const place = (at - this.#from) * KEY_BYTES;
    const there = this.#block.getUint32(place);
    return there < high || (there === high && this.#block.getUint32(place + 4) < low);
  }

  #is(at: number, high: number, low: number): boolean {
    const place = (at - this.#from) * KEY_BYTES;
    return this.#block.getUint32(place) === high && this.#block.getUint32(place + 4) === low;
  }

  #load(from: number, to: number): void {
    // Ids that are asked in order find their run read.
    if (from >= this.#from && to <= this.#to) return;
    const bytes = (to - from) * KEY_BYTES;
    if (bytes > this.#block.byteLength) this.#block = new DataView(new ArrayBuffer(bytes));
    this.#to = this.#from;
    this.#open.read(this.#block, bytes, HEADER_BYTES + from * KEY_BYTES);
    this.#from = from;
    this.#to = to;
  }
}

/** A descriptor, closed once. */
class OpenFile {
  readonly #file: string;
  #descriptor: number;

  constructor(file: string) {
    this.#file = file;
    this.#descriptor = openSync(file, 'r');
  }

  get size(): number {
    return fstatSync(this.#descriptor).size;
  }

  read(into: NodeJS.ArrayBufferView, length: number, position: number): void {
    if (this.#descriptor < 0) throw new InvalidError(`the stage map ${this.#file} was closed`);
    for (let at = 0; at < length; ) {
      const read = readSync(this.#descriptor, into, at, length - at, position + at);
      if (read === 0) throw damaged(this.#file, 'it was cut short');
      at += read;
    }
  }

  close(): void {
    if (this.#descriptor >= 0) closeSync(this.#descriptor);
    this.#descriptor = -1;
  }
}

// Eviction, verifying and requests under way all hold maps, for as long as each needs them.
const letGo = new FinalizationRegistry<OpenFile>((open) => open.close());

/**
 * Opens a map. What it keeps in memory is checked; the keys are by `check`.
 * @param root what it must have been made from
 * @throws CorruptError if the file is damaged, InvalidError if it is another manifest's: in both cases build it anew
 */
export function loadStageMap(file: string, root: Digest): StageMap {
  const open = new OpenFile(file);
  try {
    const { size } = open;
    if (size < HEADER_BYTES) throw damaged(file, `it has ${size} bytes`);
    const head = Buffer.alloc(HEADER_BYTES);
    open.read(head, HEADER_BYTES, 0);
    const header = readHeader(head, (what) => damaged(file, what));
    if (size !== header.fileBytes) {
      throw damaged(file, `it has ${size} bytes where its header says ${header.fileBytes}`);
    }
    const names = new Uint8Array(header.segments * DIGEST_BYTES);
    const runs = new Uint32Array(2 ** header.bits + 1);
    open.read(names, names.byteLength, header.namesAt);
    open.read(runs, runs.byteLength, header.namesAt + names.byteLength);
    const checksum = createHash('sha256')
      .update(head.subarray(0, HEADER_BYTES - DIGEST_BYTES))
      .update(names)
      .update(new Uint8Array(runs.buffer))
      .digest();
    if (!checksum.equals(head.subarray(HEADER_BYTES - DIGEST_BYTES))) throw damaged(file, 'its checksum differs');
    if (header.root !== root) {
      throw new InvalidError(`the stage map ${file} belongs to the manifest ${header.root}, not ${root}`);
    }
    return new StageMap(file, open, header, names, runs);
  } catch (error) {
    open.close();
    throw error;
  }
}

function damaged(file: string, what: string): CorruptError {
  return new CorruptError(`the stage map ${file} is damaged: ${what}`, { facts: { file } });
}
