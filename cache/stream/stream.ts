import { closeSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '../../dataset/digest.ts';
import { CorruptError, InvalidError, isErrno, NotFoundError, UnavailableError } from '../../dataset/errors.ts';
import type { ChunkLocation } from '../../dataset/location.ts';
import type { Repository } from '../../dataset/repository.ts';
import { isSourceFault } from '../../dataset/source/read-source.ts';
import { openSource } from '../../dataset/source/sources.ts';
import type { Cache } from '../cache.ts';
import { abortable } from '../hydrate/abortable.ts';
import { isMistake, lastError, pauses } from '../hydrate/failures.ts';
import { isFull } from '../object-writer.ts';
import type { Place } from '../segment-reader.ts';
import type { Arrivals } from './arrivals.ts';
import type { ChunkMemory } from './chunk-memory.ts';
import type { Fetch, FetchQueue, StreamCrew } from './fetch-queue.ts';
import { hasPartial, openPartial, type Partial } from './partial.ts';
import { type Pieces, piecesOf } from './pieces.ts';
import { BLOCK_BYTES } from './presence.ts';
import { ReadCursors } from './read-cursors.ts';
import type { SmallRuns } from './small-runs.ts';
import type { Landing, StreamJob } from './stream-job.ts';
import { readExactly } from './whole-file.ts';

/** What all streams of a cache share. */
export interface StreamParts {
  readonly cache: Cache;
  readonly crew: StreamCrew;
  readonly queue: FetchQueue;
  readonly memory: ChunkMemory;
  readonly arrivals: Arrivals;
  readonly runs: SmallRuns;
  /** How long to try for a piece, in milliseconds. */
  readonly patience: number;
  readonly locate: (id: Digest, fresh: boolean) => Promise<Place | undefined>;
  /** Room on the disk for so many bytes, or there is none. */
  readonly takeRoom: (bytes: number) => boolean;
  readonly giveRoom: (bytes: number) => void;
  /** So many bytes of a partial file came onto the disk, or went. */
  readonly counted: (bytes: number) => void;
  /** A partial file of so many bytes is an object now. */
  readonly adopted: (bytes: number) => void;
  /** How much may be fetched ahead of a reader whose bytes stay in memory only, in bytes. */
  readonly memoryWindow: () => number;
  readonly onWarning: (message: string) => void;
}

/** A sparse file and what of it is there: see `Presence`. */
export interface LocalBlocks {
  readonly fd: number;
  /** In bytes. */
  readonly block: number;
  readonly present: SharedArrayBuffer;
}

/** How much is fetched ahead of a reader whose bytes go to the disk, in bytes. */
const WINDOW = 64 * 1024 * 1024;

/** How long after the disk was full it is not tried again, in milliseconds. */
const FULL_FOR = 5_000;

/** A piece on its way, for all who want it. */
interface Flight {
  /** The bytes, where they did not go into the partial file. */
  readonly outcome: Promise<Uint8Array | undefined>;
  readonly stopping: AbortController;
  waiters: number;
  /** Somebody waits, or has waited, for it. */
  urgent: boolean;
  fetch?: Fetch;
}

/** Where the bytes of a piece are. */
type Held = Uint8Array | 'file' | 'hole';

const nobodyReads = new Error('nobody reads it any more');

/** One object that is read while it is not in the cache, or not yet. */
export class Stream {
  readonly id: Digest;
  readonly pieces: Pieces;
  readonly #parts: StreamParts;
  readonly #cursors = new ReadCursors();
  readonly #flights = new Map<number, Flight>();
  readonly #atWork = new Set<Promise<unknown>>();
  #place: Place;
  #partial: Partial | undefined;
  /** Of the whole object, where it came by another way. */
  #object: number | undefined;
  #adopting = false;
  #diskFails = false;
  #fullSince = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(parts: StreamParts, id: Digest, place: Place) {
    this.id = id;
    this.pieces = piecesOf(place);
    this.#parts = parts;
    this.#place = place;
    const { cache } = parts;
    // A file of one piece is either there or not: a partial file is begun with its bytes.
    if (hasPartial(cache.layout, id) || (this.pieces.count > 1 && this.#mayLand(this.pieces.length(0))))
      this.#openPartial();
  }

  get size(): number {
    return this.pieces.size;
  }

  /** What another thread may read by itself. */
  get local(): LocalBlocks | undefined {
    if (!this.#partial) return undefined;
    return { fd: this.#partial.descriptor, block: BLOCK_BYTES, present: this.#partial.presence.blocks };
  }

  /** Its bytes go to memory only. */
  get inMemory(): boolean {
    return this.#object === undefined && this.#partial === undefined;
  }

  /**
   * The bytes from `offset` on, `length` of them or up to the end: not the caller's to change.
   * Errors: UnavailableError when they could not be had in time, CorruptError naming the chunk that is damaged, or the source's key.
   */
  read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    if (this.#closed) return Promise.reject(closedError(this.id));
    return this.#track(this.#read(offset, Math.max(0, Math.min(length, this.size - offset)), signal));
  }

  /** The object was put in place by somebody. */
  placed(): void {
    if (this.#object !== undefined || this.#adopting) return;
    try {
      this.#object = openSync(this.#parts.cache.objectPath(this.id), 'r');
    } catch (error) {
      // Evicted again.
      if (!isErrno(error, 'ENOENT')) throw error;
      return;
    }
    for (const flight of this.#flights.values()) if (flight.waiters === 0) flight.stopping.abort(nobodyReads);
    if (this.#partial) this.#parts.counted(-this.#partial.unlink());
  }

  /** Ends what nobody waits for, and resolves when no thread uses its files any more. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const flight of this.#flights.values()) flight.stopping.abort(closedError(this.id));
    while (this.#atWork.size > 0) await Promise.allSettled(this.#atWork);
    if (this.#partial?.presence.empty) this.#partial.unlink();
    this.#partial?.close();
    if (this.#object !== undefined) closeSync(this.#object);
  }

  async #read(offset: number, length: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
    signal?.throwIfAborted();
    if (length === 0) return new Uint8Array(0);
    let bytes: Uint8Array;
    if (this.#object !== undefined) {
      bytes = await readExactly(this.#object, offset, length);
    } else {
      const first = this.pieces.find(offset);
      const last = this.pieces.find(offset + length - 1);
      const held: Promise<Held>[] = [];
      for (let at = first; at <= last; at += 1) held.push(this.#hold(at, signal));
      this.#goAhead(last, this.#cursors.read(offset, length, this.#window()));
      bytes = await this.#assemble(first, await Promise.all(held), offset, length, signal);
    }
    return bytes;
  }

  async #assemble(
    first: number,
    held: readonly Held[],
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array> {
    const partial = this.#partial;
    const [only] = held;
    for (const [index, one] of held.entries()) {
      const at = first + index;
      if (typeof one === 'object' && offset + length >= this.pieces.offset(at + 1))
        this.#parts.memory.finish(this.pieces.key(at));
    }
    if (held.length === 1 && typeof only === 'object') {
      const from = offset - this.pieces.offset(first);
      return only.subarray(from, from + length);
    }
    try {
      if (partial && !held.some((one) => typeof one === 'object'))
        return await readExactly(partial.descriptor, offset, length);
      const out = Buffer.alloc(length);
      for (const [index, one] of held.entries()) {
        const begin = this.pieces.offset(first + index);
        const from = Math.max(offset, begin);
        const to = Math.min(offset + length, this.pieces.offset(first + index + 1));
        if (typeof one === 'object') out.set(one.subarray(from - begin, to - begin), from - offset);
        else if (one === 'file') out.set(await readExactly(partial!.descriptor, from, to - from), from - offset);
      }
      return out;
    } catch (error) {
      // The cache's disk gives back what it was given no more: then it comes from the bucket, into memory.
      this.#diskFails = true;
      this.#parts.onWarning(`the partial file of object ${this.id} cannot be read: ${(error as Error).message}`);
      for (const [index, one] of held.entries()) if (one === 'file') partial!.presence.lose(first + index);
      return await this.#read(offset, length, signal);
    }
  }

  #window(): number {
    return this.#partial && !this.#isFull() ? WINDOW : this.#parts.memoryWindow();
  }

  /** Fetches what comes after piece `last`, up to byte `end`. What goes to memory must not drive out what is there unread. */
  #goAhead(last: number, end: number): void {
    const most = this.#partial && !this.#isFull() ? this.size : this.pieces.offset(last + 1) + this.#window();
    for (let at = last + 1; at < this.pieces.count && this.pieces.offset(at) < end; at += 1) {
      if (this.pieces.offset(at + 1) > most) return;
      if (this.pieces.isHole(at) || this.#partial?.presence.has(at) || this.#flights.has(at)) continue;
      if (!this.#parts.memory.has(this.pieces.key(at))) this.#begin(at, false);
    }
  }

  async #hold(at: number, signal: AbortSignal | undefined): Promise<Held> {
    const { memory, arrivals } = this.#parts;
    if (this.#partial?.presence.has(at)) {
      this.#partial.presence.touch(at);
      return 'file';
    }
    if (this.pieces.isHole(at)) return 'hole';
    const key = this.pieces.key(at);
    const arriving = arrivals.of(key);
    if (arriving) await abortable(arriving, signal);
    const kept = memory.get(key);
    if (kept) return kept;
    const flight = this.#flights.get(at) ?? this.#begin(at, true);
    flight.waiters += 1;
    flight.urgent = true;
    flight.fetch?.hurry();
    try {
      return (await abortable(flight.outcome, signal)) ?? 'file';
    } finally {
      flight.waiters -= 1;
      if (flight.waiters === 0 && signal?.aborted) flight.stopping.abort(nobodyReads);
    }
  }

  #begin(at: number, urgent: boolean): Flight {
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array | undefined>();
    promise.catch(() => {});
    const flight: Flight = { outcome: promise, stopping: new AbortController(), waiters: 0, urgent };
    this.#flights.set(at, flight);
    const ended = this.#bring(at, flight).finally(() => {
      if (this.#flights.get(at) === flight) this.#flights.delete(at);
    });
    this.#track(ended).then(resolve, reject);
    return flight;
  }

  async #bring(at: number, flight: Flight): Promise<Uint8Array | undefined> {
    const { patience } = this.#parts;
    const { signal } = flight.stopping;
    const end = performance.now() + patience;
    const pause = pauses();
    let fresh = false;
    for (;;) {
      try {
        return await this.#fetch(at, flight, fresh);
      } catch (error) {
        signal.throwIfAborted();
        if (isFull(error)) {
          this.#fullSince = performance.now();
          continue;
        }
        // What was to come ahead is asked for again by who needs it.
        if (!flight.urgent || error instanceof InvalidError || isMistake(error) || isSourceFault(error)) throw error;
        // It may have been repaired or written anew elsewhere since it was located.
        if (error instanceof CorruptError && fresh) throw error;
        fresh = error instanceof CorruptError || error instanceof NotFoundError;
        if (error instanceof CorruptError) continue;
        const wait = pause.next().value;
        if (performance.now() + wait > end) throw lastError(this.id, error, patience);
        await sleep(wait, undefined, { signal });
      }
    }
  }

  async #fetch(at: number, flight: Flight, fresh: boolean): Promise<Uint8Array | undefined> {
    const { queue, memory, locate, giveRoom, arrivals } = this.#parts;
    const { signal } = flight.stopping;
    if (fresh) this.#place = (await locate(this.id, true)) ?? this.#place;
    const length = this.pieces.length(at);
    const landing = this.#land(at, length);
    let landed = false;
    const arrived = Promise.withResolvers<Uint8Array | undefined>();
    let along: readonly ChunkLocation[] = [];
    try {
      const { repository, task, along: others } = await this.#job(at, landing);
      along = others;
      signal.throwIfAborted();
      const onPiece = (index: number, bytes?: Uint8Array) => {
        if (index > 0) {
          memory.put(along[index - 1]!.id, bytes!);
          arrivals.end(along[index - 1]!.id);
          return;
        }
        if (bytes) memory.put(this.pieces.key(at), bytes);
        else landed = true;
        arrived.resolve(bytes);
      };
      arrivals.expect(along.map(({ id }) => id));
      const bytes = along.reduce((sum, one) => sum + one.length, length);
      const fetch = queue.add({ repository, task, bytes, urgent: flight.urgent, onPiece });
      flight.fetch = fetch;
      const abort = () => fetch.abort(signal.reason);
      signal.addEventListener('abort', abort, { once: true });
      const ended = fetch.done.finally(() => {
        signal.removeEventListener('abort', abort);
        for (const { id } of along) arrivals.end(id);
      });
      this.#track(ended).catch(() => {});
      await Promise.race([arrived.promise, ended]);
    } finally {
      if (landed) this.#there(at, flight);
      else if (landing) giveRoom(length);
    }
    return await arrived.promise;
  }

  /** What brings a piece; `along`: chunks of other files that come with it, after it. */
  async #job(at: number, landing: Landing | undefined) {
    const { cache, memory, arrivals, runs } = this.#parts;
    const { repository, locations } = this.#place;
    const { source, size } = this.pieces;
    if (source) {
      const { bucket } = await openSource(repository, source);
      const range = { offset: this.pieces.offset(at), length: this.pieces.length(at) };
      const task: StreamJob = { kind: 'stream-range', content: source, size, ...range, landing };
      return { repository: { ...repository, bucket } satisfies Repository, task, along: [] };
    }
    const chunk = this.pieces.chunk(at)!;
    const location = locations.get(chunk);
    if (location?.length !== this.pieces.length(at)) {
      throw new CorruptError(`the locations of object ${this.id} do not fit its chunk ${chunk}: run 'larder verify'`, {
        facts: { object: this.id, chunk },
      });
    }
    const isHere = (id: Digest) => memory.has(id) || arrivals.has(id) || cache.has(id);
    const plan = landing || this.pieces.count > 1 ? [location] : runs.plan(this.#place, location, isHere);
    const chunks = plan.map((one) => (one === location ? { location: one, landing } : { location: one }));
    const task: StreamJob = { kind: 'stream-chunks', pack: location.pack, chunks };
    return { repository, task, along: plan.slice(1) };
  }

  /** Where a piece shall go, its room taken; undefined: to memory. */
  #land(at: number, length: number): Landing | undefined {
    const { takeRoom, giveRoom } = this.#parts;
    if (!this.#mayLand(length) || !takeRoom(length)) return undefined;
    if (!this.#partial && !this.#openPartial()) {
      giveRoom(length);
      return undefined;
    }
    return this.#partial!.landing(at);
  }

  #mayLand(length: number): boolean {
    if (this.#diskFails || this.#object !== undefined || this.#isFull()) return false;
    if (this.#parts.takeRoom(length)) {
      this.#parts.giveRoom(length);
      return true;
    }
    return false;
  }

  #isFull(): boolean {
    return performance.now() - this.#fullSince < FULL_FOR;
  }

  #openPartial(): boolean {
    const { cache, onWarning } = this.#parts;
    try {
      this.#partial = openPartial({ layout: cache.layout, bootId: cache.bootId, id: this.id, pieces: this.pieces });
      if (this.#partial.presence.whole && this.pieces.count > 0) this.#adopt();
      return true;
    } catch (error) {
      if (!isErrno(error, 'ENOSPC') && !isErrno(error, 'EDQUOT'))
        onWarning(`object ${this.id} is read without the cache's disk: ${(error as Error).message}`);
      this.#fullSince = performance.now();
      return false;
    }
  }

  #there(at: number, flight: Flight): void {
    const { presence } = this.#partial!;
    this.#parts.counted(this.pieces.length(at));
    presence.add(at, !flight.urgent);
    if (presence.whole) this.#adopt();
  }

  /** The partial file becomes the object. */
  #adopt(): void {
    const partial = this.#partial!;
    if (this.#adopting || this.#diskFails || this.#object !== undefined) return;
    this.#adopting = true;
    const { crew, onWarning, adopted } = this.#parts;
    const task: StreamJob = { kind: 'stream-adopt', id: this.id, file: partial.file, size: this.size };
    const adopt = async () => {
      try {
        await crew.run(this.#place.repository, task).done;
        partial.adopted();
        adopted(partial.bytes());
      } catch (error) {
        // The next who opens it tries again, if the file is still there.
        if (!this.#closed) onWarning(`object ${this.id} is whole, and not in place: ${(error as Error).message}`);
      }
    };
    this.#track(adopt());
  }

  #track<T>(work: Promise<T>): Promise<T> {
    this.#atWork.add(work);
    const done = () => this.#atWork.delete(work);
    work.then(done, done);
    return work;
  }
}

function closedError(id: Digest): UnavailableError {
  return new UnavailableError(`object ${id} is not read any more`, { facts: { object: id } });
}
