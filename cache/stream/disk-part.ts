import { closeSync, openSync, write as writeCallback } from 'node:fs';
import { promisify } from 'node:util';
import type { Digest } from '../../dataset/digest.ts';
import { isDiskFull, isErrno } from '../../dataset/errors.ts';
import type { Repository } from '../../dataset/repository.ts';
import type { Cache } from '../cache.ts';
import type { StreamCrew } from './fetch-queue.ts';
import { hasPartial, openPartial, type Partial } from './partial.ts';
import type { Pieces } from './pieces.ts';
import { BLOCK_BYTES } from './presence.ts';
import { type Landing, type StreamJob, THERE } from './stream-job.ts';
import { readExactly } from './whole-file.ts';

export interface DiskParts {
  readonly cache: Cache;
  readonly crew: StreamCrew;
  /** Room on the disk for so many bytes, or there is none. */
  readonly takeRoom: (bytes: number) => boolean;
  readonly giveRoom: (bytes: number) => void;
  /** So many bytes of a partial file came onto the disk, or went. */
  readonly counted: (bytes: number) => void;
  /** A partial file of so many bytes is an object now. */
  readonly adopted: (bytes: number) => void;
  readonly onWarning: (message: string) => void;
}

/** A sparse file and what of it is there: see `Presence`. */
export interface LocalBlocks {
  readonly fd: number;
  /** In bytes. */
  readonly block: number;
  readonly present: SharedArrayBuffer;
}

const writeAt = promisify(writeCallback);

/** How long after the disk was full it is not tried again, in milliseconds. */
const FULL_FOR = 5_000;

/** What of an object that is being read is on the disk: pieces in a partial file, which becomes the object when it has all of them. */
export class DiskPart {
  readonly #parts: DiskParts;
  readonly #id: Digest;
  readonly #pieces: Pieces;
  readonly #repository: Repository;
  #partial: Partial | undefined;
  /** Of the whole object, where it came by another way. */
  #object: number | undefined;
  #adopting: Promise<void> | undefined;
  readonly #keeping = new Set<number>();
  #fails = false;
  #fullSince = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(parts: DiskParts, id: Digest, pieces: Pieces, repository: Repository) {
    this.#parts = parts;
    this.#id = id;
    this.#pieces = pieces;
    this.#repository = repository;
    // A file of one piece is either there or not: a partial file is begun with its bytes.
    if (hasPartial(parts.cache.layout, id) || (pieces.count > 1 && this.#mayTake(pieces.length(0)))) this.#open();
  }

  get local(): LocalBlocks | undefined {
    if (!this.#partial) return undefined;
    return { fd: this.#partial.descriptor, block: BLOCK_BYTES, present: this.#partial.presence.blocks };
  }

  /** Nothing of it is on the disk. */
  get isAbsent(): boolean {
    return this.#object === undefined && this.#partial === undefined;
  }

  /** What comes goes to the disk, as far as is known. */
  get takes(): boolean {
    return this.#partial !== undefined && !this.#fails && !this.#isFull();
  }

  /** The whole object's, which somebody else brought. */
  get object(): number | undefined {
    return this.#object;
  }

  /** Whether the piece is there; with a partial file, holes are. */
  has(at: number): boolean {
    return this.#partial?.presence.has(at) === true;
  }

  /** A reader has come to the piece. */
  touch(at: number): void {
    this.#partial?.presence.touch(at);
  }

  /** Bytes of pieces that are there. */
  read(offset: number, length: number): Promise<Uint8Array> {
    return readExactly(this.#partial!.descriptor, offset, length);
  }

  /** Pieces that are there cannot be read after all: nothing more goes to this file. */
  lose(pieces: readonly number[]): void {
    this.#fails = true;
    for (const at of pieces) this.#partial?.presence.lose(at);
  }

  /** Where a piece shall go, its room taken; undefined: nowhere. Then `landed`, or `missed`. */
  land(at: number): Landing | undefined {
    const length = this.#pieces.length(at);
    if (!this.#mayTake(length) || !this.#parts.takeRoom(length)) return undefined;
    if (this.#partial || this.#open()) return this.#partial!.landing(at);
    this.missed(at);
    return undefined;
  }

  /** @param ahead nobody asked for it yet */
  landed(at: number, ahead: boolean): void {
    const { presence } = this.#partial!;
    this.#parts.counted(this.#pieces.length(at));
    presence.add(at, ahead);
    if (presence.whole) this.#adopt();
  }

  missed(at: number): void {
    this.#parts.giveRoom(this.#pieces.length(at));
  }

  /** Puts a piece there that is in memory, where there is room by now: the file is whole only with it. */
  async keep(at: number, bytes: Uint8Array): Promise<void> {
    if (this.#keeping.has(at) || this.has(at)) return;
    const landing = this.land(at);
    if (!landing) return;
    this.#keeping.add(at);
    let kept = false;
    try {
      await writeFully(landing.file, bytes, landing.position);
      await writeFully(landing.marks, THERE, landing.mark);
      kept = true;
    } catch (error) {
      // It is in memory anyway.
      this.full();
      if (!isDiskFull(error))
        this.#parts.onWarning(`object ${this.#id} is read without the cache's disk: ${(error as Error).message}`);
    } finally {
      this.#keeping.delete(at);
      if (kept) this.landed(at, false);
      else this.missed(at);
    }
  }

  /** The disk is full: for a while, nothing goes there. */
  full(): void {
    this.#fullSince = performance.now();
  }

  /** The object was put in place by somebody. @returns whether it is to be read from there */
  placed(): boolean {
    if (this.#object !== undefined || this.#adopting) return false;
    try {
      this.#object = openSync(this.#parts.cache.objectPath(this.#id), 'r');
    } catch (error) {
      // Evicted again.
      if (isErrno(error, 'ENOENT')) return false;
      throw error;
    }
    if (this.#partial) this.#parts.counted(-this.#partial.unlink());
    return true;
  }

  /** To be called when nobody reads and no job writes. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#adopting;
    if (this.#partial?.presence.empty) this.#partial.unlink();
    this.#partial?.close();
    if (this.#object !== undefined) closeSync(this.#object);
  }

  #mayTake(bytes: number): boolean {
    if (this.#fails || this.#object !== undefined || this.#isFull() || !this.#parts.takeRoom(bytes)) return false;
    this.#parts.giveRoom(bytes);
    return true;
  }

  #isFull(): boolean {
    return performance.now() - this.#fullSince < FULL_FOR;
  }

  #open(): boolean {
    const { cache, onWarning } = this.#parts;
    const { layout, bootId } = cache;
    try {
      this.#partial = openPartial({ layout, bootId, id: this.#id, pieces: this.#pieces });
    } catch (error) {
      if (!isDiskFull(error))
        onWarning(`object ${this.#id} is read without the cache's disk: ${(error as Error).message}`);
      this.full();
      return false;
    }
    if (this.#partial.presence.whole && this.#pieces.count > 0) this.#adopt();
    return true;
  }

  /** The partial file becomes the object. */
  #adopt(): void {
    const partial = this.#partial!;
    if (this.#adopting || this.#fails || this.#object !== undefined) return;
    const { crew, onWarning, adopted } = this.#parts;
    const task: StreamJob = { kind: 'stream-adopt', id: this.#id, file: partial.file, size: this.#pieces.size };
    const adopt = async () => {
      try {
        await crew.run(this.#repository, task).done;
        partial.adopted();
        adopted(partial.bytes());
      } catch (error) {
        // The next who opens it tries again, if the file is still there.
        if (!this.#closed) onWarning(`object ${this.#id} is whole, and not in place: ${(error as Error).message}`);
      }
    };
    this.#adopting = adopt();
  }
}

async function writeFully(descriptor: number, bytes: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    at += (await writeAt(descriptor, bytes, at, bytes.length - at, position + at)).bytesWritten;
  }
}
