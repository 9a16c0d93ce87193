import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '../../dataset/digest.ts';
import { CorruptError, InvalidError, NotFoundError, UnavailableError } from '../../dataset/errors.ts';
import { isSourceFault } from '../../dataset/source/read-source.ts';
import { abortable } from '../../system/abortable.ts';
import { isMistake, lastError, pauses } from '../hydrate/failures.ts';
import { isFull } from '../object-writer.ts';
import type { Rate } from '../rate.ts';
import type { Place } from '../segment-reader.ts';
import type { Arrivals } from './arrivals.ts';
import type { ChunkMemory } from './chunk-memory.ts';
import { DiskPart, type DiskParts, type LocalBlocks } from './disk-part.ts';
import type { Fetch, FetchQueue } from './fetch-queue.ts';
import { pieceJob } from './piece-job.ts';
import { type Pieces, piecesOf } from './pieces.ts';
import { ReadCursors } from './read-cursors.ts';
import type { SmallRuns } from './small-runs.ts';
import { readExactly } from './whole-file.ts';

/** What all streams of a cache share. */
export interface StreamParts extends DiskParts {
  readonly queue: FetchQueue;
  readonly memory: ChunkMemory;
  readonly arrivals: Arrivals;
  readonly runs: SmallRuns;
  /** How long to try for a piece of an object, in milliseconds; asked after each failure, for it may change. */
  readonly patience: (id: Digest) => number;
  /** How fast an object may be fetched; undefined for as fast as it comes. */
  readonly rateOf: (id: Digest) => Rate | undefined;
  readonly locate: (id: Digest, fresh: boolean) => Promise<Place | undefined>;
  /** How much may be fetched ahead of a reader whose bytes stay in memory only, in bytes. */
  readonly memoryWindow: () => number;
}

/** How much is fetched ahead of a reader whose bytes go to the disk, in bytes. */
const WINDOW = 64 * 1024 * 1024;

/** Of an object that comes no faster than it may, what so many seconds bring. */
const LIMITED_SECONDS = 4;

/** How long after its last read a file shares the memory for what is fetched ahead, in milliseconds. */
const ACTIVE_FOR = 5_000;

/** A piece on its way, for all who want it. */
interface Flight {
  /** The bytes, where they did not go to the disk. */
  readonly outcome: Promise<Uint8Array | undefined>;
  readonly stopping: AbortController;
  waiters: number;
  /** Somebody waits, or has waited, for it. */
  urgent: boolean;
  fetch?: Fetch;
}

/** Where the bytes of a piece are. */
type Held = Uint8Array | 'disk' | 'hole';

const nobodyReads = new Error('nobody reads it any more');

/** One object that is read while it is not in the cache, or not yet. */
export class Stream {
  readonly id: Digest;
  readonly #pieces: Pieces;
  readonly #parts: StreamParts;
  readonly #disk: DiskPart;
  readonly #cursors = new ReadCursors();
  readonly #flights = new Map<number, Flight>();
  readonly #atWork = new Set<Promise<unknown>>();
  #place: Place;
  #lastRead = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(parts: StreamParts, id: Digest, place: Place) {
    this.id = id;
    this.#pieces = piecesOf(place);
    this.#parts = parts;
    this.#place = place;
    this.#disk = new DiskPart(parts, id, this.#pieces, place.repository);
  }

  get size(): number {
    return this.#pieces.size;
  }

  /** What another thread may read by itself. */
  get local(): LocalBlocks | undefined {
    return this.#disk.local;
  }

  /** It is read from memory in several pieces, and was a moment ago. */
  get needsWindow(): boolean {
    return this.inMemory && this.#pieces.count > 1 && performance.now() - this.#lastRead < ACTIVE_FOR;
  }

  /** Its bytes go to memory only. */
  get inMemory(): boolean {
    return this.#disk.isAbsent;
  }

  /**
   * The bytes from `offset` on, `length` of them or up to the end: not the caller's to change.
   * Errors: UnavailableError when they could not be had in time, CorruptError naming the chunk that is damaged, or the source's key.
   */
  read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    return this.#track(this.#read(offset, Math.max(0, Math.min(length, this.size - offset)), signal));
  }

  /** The object was put in place by somebody. */
  placed(): void {
    if (!this.#disk.placed()) return;
    for (const flight of this.#flights.values()) if (flight.waiters === 0) flight.stopping.abort(nobodyReads);
  }

  /** Ends every read, and resolves when no thread uses its files any more. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const flight of this.#flights.values()) flight.stopping.abort(closedError(this.id));
    while (this.#atWork.size > 0) await Promise.allSettled(this.#atWork);
    await this.#disk.close();
  }

  async #read(offset: number, length: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
    signal?.throwIfAborted();
    if (this.#closed) throw closedError(this.id);
    if (length === 0) return new Uint8Array(0);
    if (this.#disk.object !== undefined) return await readExactly(this.#disk.object, offset, length);
    this.#lastRead = performance.now();
    const first = this.#pieces.find(offset);
    const last = this.#pieces.find(offset + length - 1);
    const held: Promise<Held>[] = [];
    for (let at = first; at <= last; at += 1) held.push(this.#hold(at, signal));
    if (this.#pieces.count > 1) {
      const rate = this.#parts.rateOf(this.id);
      const most = rate === undefined ? WINDOW : Math.min(WINDOW, rate.bytesPerSecond * LIMITED_SECONDS);
      const window = this.#disk.takes ? most : Math.min(most, this.#parts.memoryWindow());
      this.#goAhead(last, this.#cursors.read(offset, length, window), window);
    }
    const there = await Promise.all(held);
    this.#finish(first, there, offset + length);
    try {
      return await this.#assemble(first, there, offset, length);
    } catch (error) {
      // The cache's disk does not give back what it was given: then it comes from the bucket, into memory.
      this.#parts.onWarning(`the partial file of object ${this.id} cannot be read: ${(error as Error).message}`);
      this.#disk.lose(there.flatMap((one, index) => (one === 'disk' ? [first + index] : [])));
      return await this.#read(offset, length, signal);
    }
  }

  async #assemble(first: number, held: readonly Held[], offset: number, length: number): Promise<Uint8Array> {
    const [only] = held;
    if (held.length === 1 && typeof only === 'object') {
      const from = offset - this.#pieces.offset(first);
      return only.subarray(from, from + length);
    }
    if (held.every((one) => one === 'disk')) return await this.#disk.read(offset, length);
    const out = Buffer.alloc(length);
    for (const [index, one] of held.entries()) {
      const begin = this.#pieces.offset(first + index);
      const from = Math.max(offset, begin);
      const to = Math.min(offset + length, this.#pieces.offset(first + index + 1));
      if (one === 'hole') continue;
      const bytes = one === 'disk' ? await this.#disk.read(from, to - from) : one.subarray(from - begin, to - begin);
      out.set(bytes, from - offset);
    }
    return out;
  }

  /** Pieces in memory of which the end was read make room for others. */
  #finish(first: number, held: readonly Held[], end: number): void {
    for (const [index, one] of held.entries()) {
      const at = first + index;
      if (typeof one === 'object' && end >= this.#pieces.offset(at + 1))
        this.#parts.memory.finish(this.#pieces.key(at));
    }
  }

  /** Fetches what comes after piece `last`, up to byte `end`. What goes to memory must not drive out what is there unread. */
  #goAhead(last: number, end: number, window: number): void {
    const most = this.#disk.takes ? this.size : this.#pieces.offset(last + 1) + window;
    for (let at = last + 1; at < this.#pieces.count && this.#pieces.offset(at) < end; at += 1) {
      if (this.#pieces.offset(at + 1) > most) return;
      if (this.#pieces.isHole(at) || this.#disk.has(at) || this.#flights.has(at)) continue;
      if (!this.#parts.memory.has(this.#pieces.key(at))) this.#begin(at, false);
    }
  }

  async #hold(at: number, signal: AbortSignal | undefined): Promise<Held> {
    const { memory, arrivals } = this.#parts;
    if (this.#disk.has(at)) {
      this.#disk.touch(at);
      return 'disk';
    }
    if (this.#pieces.isHole(at)) return 'hole';
    const key = this.#pieces.key(at);
    const arriving = arrivals.of(key);
    if (arriving) await abortable(arriving, signal);
    const kept = memory.get(key);
    if (kept) {
      this.#track(this.#disk.keep(at, kept));
      return kept;
    }
    const underway = this.#flights.get(at);
    if (underway?.stopping.signal.aborted && !this.#closed) {
      // Called off, and its thread may still write: whoever comes now asks anew when that has ended.
      await abortable(underway.outcome.then(ignore, ignore), signal);
      return await this.#hold(at, signal);
    }
    const flight = underway ?? this.#begin(at, true);
    flight.waiters += 1;
    flight.urgent = true;
    flight.fetch?.hurry();
    try {
      return (await abortable(flight.outcome, signal)) ?? 'disk';
    } finally {
      flight.waiters -= 1;
      if (flight.waiters === 0 && signal?.aborted) flight.stopping.abort(nobodyReads);
    }
  }

  #begin(at: number, urgent: boolean): Flight {
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array | undefined>();
    promise.catch(() => {});
    const flight: Flight = { outcome: promise, stopping: new AbortController(), waiters: 0, urgent };
    if (this.#closed) flight.stopping.abort(closedError(this.id));
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
    const began = performance.now();
    const pause = pauses();
    let fresh = false;
    for (;;) {
      try {
        signal.throwIfAborted();
        return await this.#fetch(at, flight, fresh);
      } catch (error) {
        signal.throwIfAborted();
        if (isFull(error)) {
          this.#disk.full();
          continue;
        }
        // What was to come ahead is asked for again by who needs it.
        if (!flight.urgent || error instanceof InvalidError || isMistake(error) || isSourceFault(error)) throw error;
        // It may have been repaired or written anew elsewhere since it was located.
        if (error instanceof CorruptError && fresh) throw error;
        fresh = error instanceof CorruptError || error instanceof NotFoundError;
        if (error instanceof CorruptError) continue;
        const wait = pause.next().value;
        const within = patience(this.id);
        if (performance.now() + wait > began + within) throw lastError(this.id, error, within);
        await sleep(wait, undefined, { signal });
      }
    }
  }

  async #fetch(at: number, flight: Flight, fresh: boolean): Promise<Uint8Array | undefined> {
    const { cache, queue, memory, locate, arrivals, runs } = this.#parts;
    const { signal } = flight.stopping;
    const pieces = this.#pieces;
    if (fresh) this.#place = (await locate(this.id, true)) ?? this.#place;
    const landing = this.#disk.land(at);
    const arrived = Promise.withResolvers<Uint8Array | undefined>();
    let landed = false;
    try {
      const isHere = (id: Digest) => memory.has(id) || arrivals.has(id) || cache.has(id);
      const job = await pieceJob({ id: this.id, place: this.#place, pieces, at, landing, runs, isHere });
      signal.throwIfAborted();
      const along = job.along.map(({ id }) => id);
      const onPiece = (index: number, bytes?: Uint8Array) => {
        const other = along[index - 1];
        if (bytes) memory.put(other ?? pieces.key(at), bytes);
        else landed = true;
        if (other) arrivals.end(other);
        else arrived.resolve(bytes);
      };
      arrivals.expect(along);
      const bytes = job.along.reduce((sum, { length }) => sum + length, pieces.length(at));
      const fetch = queue.add({ ...job, bytes, urgent: flight.urgent, rate: this.#parts.rateOf(this.id), onPiece });
      flight.fetch = fetch;
      const abort = () => fetch.abort(signal.reason);
      signal.addEventListener('abort', abort, { once: true });
      const ended = fetch.done.finally(() => {
        signal.removeEventListener('abort', abort);
        for (const id of along) arrivals.end(id);
      });
      this.#track(ended).catch(() => {});
      // Who waits for the piece does not wait for what comes along.
      await Promise.race([arrived.promise, ended]);
    } finally {
      if (landed) this.#disk.landed(at, !flight.urgent);
      else if (landing) this.#disk.missed(at);
    }
    return await arrived.promise;
  }

  #track<T>(work: Promise<T>): Promise<T> {
    this.#atWork.add(work);
    const done = () => this.#atWork.delete(work);
    work.then(done, done);
    return work;
  }
}

function ignore(): void {}

function closedError(id: Digest): UnavailableError {
  return new UnavailableError(`object ${id} is not read any more`, { facts: { object: id } });
}
