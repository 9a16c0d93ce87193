import type { Digest } from '../../dataset/digest.ts';
import { UnavailableError } from '../../dataset/errors.ts';
import { abortable } from '../../system/abortable.ts';
import type { Cache } from '../cache.ts';
import { publish } from '../events.ts';
import { retrying } from '../hydrate/failures.ts';
import type { Rate } from '../rate.ts';
import { openRoom } from '../room.ts';
import type { Place } from '../segment-reader.ts';
import { Arrivals } from './arrivals.ts';
import { ChunkMemory } from './chunk-memory.ts';
import type { LocalBlocks } from './disk-part.ts';
import { FetchQueue, type FetchQueueStats, type StreamCrew } from './fetch-queue.ts';
import { listPartials, removePartial } from './partial.ts';
import { SmallRuns } from './small-runs.ts';
import { Stream, type StreamParts } from './stream.ts';
import { WholeFile } from './whole-file.ts';

/** Objects that are read while they are fetched, or that are never kept. */
export interface Streams extends AsyncDisposable {
  /**
   * An object for reading; undefined where no staged version has it. Every open ends with its `close`.
   * Errors: those of locating it; the signal's reason when that is aborted.
   */
  open(id: Digest, signal?: AbortSignal): Promise<StreamedFile | undefined>;

  /**
   * Removes partial files that nobody reads and no staged version has, the longest unwritten first, until so many bytes are free.
   * @returns how many are, by what they took
   */
  free(bytes: number): number;

  stats(): StreamStats;

  /** Ends every read. What is there of a file stays for the next daemon. */
  close(): Promise<void>;
}

/** An object that somebody has open. */
export interface StreamedFile {
  /** In bytes. */
  readonly size: number;
  /** The bytes from `offset` on, `length` of them or up to the end: not the caller's to change. A failure is this read's only. */
  read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array>;
  /** Path of the object, once it is in the cache whole. */
  whole(): string | undefined;
  /** What another thread may read by itself, until `close`. */
  readonly local?: LocalBlocks;
  close(): void;
}

export interface StreamStats {
  /** Objects that are open. */
  readonly open: number;
  /** Of them, those whose bytes go to memory only. */
  readonly inMemory: number;
  /** Of partial files, whether they are open or not, in bytes. */
  readonly diskBytes: number;
  /** Kept in memory, in bytes. */
  readonly memoryBytes: number;
  readonly fetches: FetchQueueStats;
}

export interface StreamsOptions {
  readonly cache: Cache;
  /** Its threads fetch. The crew is closed after the streams. */
  readonly crew: StreamCrew;
  /** Where an object is; `fresh`: what is known of it may be old. */
  readonly locate: (id: Digest, fresh: boolean) => Promise<Place | undefined>;
  /** Whether a staged version has it. */
  readonly isStaged: (id: Digest) => boolean;
  /** For `openRoom`: what may still be written into the cache. */
  readonly room?: SharedArrayBuffer;
  /** Told that there is no room for so many bytes; asked again only when it has settled, and after a while. */
  readonly makeRoom?: (bytes: number) => Promise<boolean>;
  /** How long a read tries, in milliseconds, where `patienceOf` does not say. */
  readonly patience?: number;
  /** How long a read of an object tries, in milliseconds. */
  readonly patienceOf?: (id: Digest) => number;
  /** How fast an object may be fetched; undefined for as fast as it comes. */
  readonly rateOf?: (id: Digest) => Rate | undefined;
  /** For what does not go to the disk, in bytes. */
  readonly memory?: number;
  /** Of all that is being fetched at a time, in bytes. */
  readonly inFlight?: number;
  readonly onWarning?: (message: string) => void;
}

export const DEFAULT_STREAM_MEMORY = 64 * 1024 * 1024;
export const DEFAULT_STREAM_IN_FLIGHT = 32 * 1024 * 1024;

/** How long after room could not be made it is not tried again, in milliseconds. */
const NO_ROOM_FOR = 2_000;

/** How long the count of those who share the memory holds, in milliseconds. */
const SHARING_FOR = 100;

interface Opened {
  readonly file: Stream | WholeFile;
  users: number;
  ended: boolean;
}

export function createStreams(options: StreamsOptions): Streams {
  const { cache, crew, locate, isStaged, makeRoom, rateOf = () => undefined, onWarning = () => {} } = options;
  const { patience = 30_000, patienceOf = () => patience } = options;
  const { memory = DEFAULT_STREAM_MEMORY, inFlight = DEFAULT_STREAM_IN_FLIGHT } = options;
  const room = options.room && openRoom(options.room);
  const opened = new Map<Digest, Opened>();
  const opening = new Map<Digest, Promise<Opened | undefined>>();
  const ending = new Map<Digest, Promise<void>>();
  let sharing = { at: Number.NEGATIVE_INFINITY, readers: 1 };
  let triedRoom = Number.NEGATIVE_INFINITY;
  const stopping = new AbortController();
  let closed = false;

  const parts: StreamParts = {
    cache,
    crew,
    queue: new FetchQueue(crew, inFlight),
    memory: new ChunkMemory(memory),
    arrivals: new Arrivals(),
    runs: new SmallRuns(),
    patience: patienceOf,
    rateOf,
    locate,
    takeRoom: (bytes) => !room || room.take(bytes) || (tryRoom(bytes) && room.take(bytes)),
    giveRoom: (bytes) => room?.give(bytes),
    counted: (bytes) => {
      diskBytes += bytes;
      if (bytes > 0) room?.settle(bytes);
      else room?.change(-bytes);
    },
    adopted: (bytes) => {
      diskBytes -= bytes;
    },
    memoryWindow,
    onWarning,
  };

  let diskBytes = listPartials(cache.layout, cache.bootId).reduce((sum, { bytes }) => sum + bytes, 0);
  cache.onPlaced((placed) => {
    if (opened.size > 0) for (const { id } of placed) opened.get(id)?.file.placed();
  });

  /** Half of the memory, shared by those who read from it. */
  function memoryWindow(): number {
    // Thousands of small files may be open.
    const now = performance.now();
    if (now - sharing.at > SHARING_FOR) sharing = { at: now, readers: count((file) => file.needsWindow) };
    return memory / (2 * Math.max(1, sharing.readers));
  }

  function count(is: (file: Stream | WholeFile) => boolean): number {
    let found = 0;
    for (const { file } of opened.values()) if (is(file)) found += 1;
    return found;
  }

  /** Whether what nobody reads made room at once. Other room may come later. */
  function tryRoom(bytes: number): boolean {
    if (performance.now() - triedRoom < NO_ROOM_FOR) return false;
    triedRoom = performance.now();
    if (free(bytes) >= bytes) {
      triedRoom = Number.NEGATIVE_INFINITY;
      return true;
    }
    makeRoom?.(bytes).then(
      (made) => {
        if (made) triedRoom = Number.NEGATIVE_INFINITY;
      },
      (error) => onWarning(`no room could be made in the cache: ${(error as Error).message}`),
    );
    return false;
  }

  function free(bytes: number): number {
    let freed = 0;
    for (const partial of listPartials(cache.layout, cache.bootId)) {
      if (freed >= bytes) break;
      const { id } = partial;
      if (opened.has(id) || opening.has(id) || ending.has(id) || isStaged(id)) continue;
      removePartial(cache.layout, id);
      freed += partial.bytes;
    }
    parts.counted(-freed);
    return freed;
  }

  async function begin(id: Digest): Promise<Opened | undefined> {
    await ending.get(id);
    let file: Stream | WholeFile | undefined = WholeFile.open(cache, id);
    if (!file) {
      const place = await retrying(() => locate(id, false), patienceOf(id), stopping.signal);
      // It may have come meanwhile.
      file = WholeFile.open(cache, id);
      if (!file && !place) return undefined;
      if (closed) throw closing();
      file ??= new Stream(parts, id, place!);
    }
    const one: Opened = { file, users: 0, ended: false };
    opened.set(id, one);
    // Nobody may be left who wanted it.
    setImmediate(() => {
      if (one.users === 0) end(one);
    });
    return one;
  }

  async function open(id: Digest, signal?: AbortSignal): Promise<StreamedFile | undefined> {
    for (;;) {
      signal?.throwIfAborted();
      if (closed) throw closing();
      const there = opened.get(id);
      if (there) return handle(there);
      let coming = opening.get(id);
      if (!coming) {
        coming = begin(id).finally(() => opening.delete(id));
        coming.catch(() => {});
        opening.set(id, coming);
      }
      // Whoever began it is back first, and another may have closed it by now: then it begins anew.
      if ((await abortable(coming, signal)) === undefined) return undefined;
    }
  }

  function handle(one: Opened): StreamedFile {
    const { file } = one;
    one.users += 1;
    let open = true;
    return {
      size: file.size,
      read: async (offset, length, signal) => {
        const bytes = await file.read(offset, length, signal);
        publish('streamed', { cache: cache.layout.directory, id: file.id, bytes: bytes.length });
        return bytes;
      },
      whole: () => (cache.has(file.id) ? cache.objectPath(file.id) : undefined),
      get local() {
        return file.local;
      },
      close: () => {
        if (!open) return;
        open = false;
        one.users -= 1;
        if (one.users === 0) end(one);
      },
    };
  }

  function end(one: Opened): void {
    if (one.ended) return;
    one.ended = true;
    const { file } = one;
    opened.delete(file.id);
    const ended = file.close().finally(() => ending.delete(file.id));
    ending.set(file.id, ended);
  }

  const streams: Streams = {
    open,
    free,
    stats: () => ({
      open: opened.size,
      inMemory: count((file) => file.inMemory),
      diskBytes: Math.max(0, diskBytes),
      memoryBytes: parts.memory.bytes,
      fetches: parts.queue.stats(),
    }),
    close: async () => {
      closed = true;
      stopping.abort(closing());
      await Promise.allSettled(opening.values());
      for (const one of opened.values()) end(one);
      await Promise.all(ending.values());
      parts.memory.clear();
    },
    [Symbol.asyncDispose]: () => streams.close(),
  };
  return streams;
}

const closing = () => new UnavailableError('the cache is closing');
