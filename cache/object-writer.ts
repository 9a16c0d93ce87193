import { existsSync, ftruncateSync, mkdirSync, rmSync, writeSync } from 'node:fs';
import type { Digest } from '../dataset/digest.ts';
import { DiskFullError, isDiskFull, isErrno, UnavailableError } from '../dataset/errors.ts';
import { Journal } from './journal.ts';
import { type Layout, objectPath } from './layout.ts';
import { moveInto, type NewFile, NewFiles } from './new-files.ts';
import type { Room } from './room.ts';

/** An object that was put into objects/. */
export interface Placed {
  readonly id: Digest;
  /** In bytes. */
  readonly size: number;
  /** Of the room, and to be settled by who counts it; absent where the object was there already. */
  readonly taken?: number;
}

export interface ObjectWriterOptions {
  readonly layout: Layout;
  /** Unlike any other writer's of this cache. */
  readonly name: string;
  readonly bootId: string;
  /** What is written is taken from it first; without one, there is room as long as the disk has. */
  readonly room?: Room;
  readonly onPlaced: (placed: readonly Placed[]) => void;
  /** See `Journal`. */
  readonly onRetired: (file: string) => void;
}

/** So many names may be foretold at once. */
export const FORETELL = 4096;

/** How much waits for one journal entry, and so for one flush of the disk; as many files are open. */
const BATCH_FILES = 256;
const BATCH_BYTES = 64 * 1024 * 1024;

/** How many placed objects are told of at a time, and how late, in milliseconds, where nobody waits for them. */
const TELL_FILES = 256;
const TELL_AFTER = 25;

/** What has no place yet: written by this writer, or elsewhere. */
interface Pending {
  readonly file: NewFile | string;
  readonly size: number;
  readonly taken: number;
}

/**
 * Puts objects into a cache. Every call is synchronous: a writer belongs on a worker thread, where it makes files as fast as the
 * kernel does. An object becomes visible whole: at once where its name was foretold, else with its batch or with `flush`.
 */
export class ObjectWriter {
  readonly #layout: Layout;
  readonly #folder: string;
  readonly #files: NewFiles;
  readonly #journal: Journal;
  readonly #onPlaced: (placed: readonly Placed[]) => void;
  readonly #room: Room | undefined;
  readonly #pending = new Map<Digest, Pending>();
  /** In place, and not told of yet. */
  #placed = new Map<Digest, Placed>();
  #telling: NodeJS.Timeout | undefined;
  /** Which generation of the journal has the name of an object to come. */
  readonly #foretold = new Map<Digest, number>();
  #foretelling: Promise<unknown> | undefined;
  #failure: { readonly error: unknown } | undefined;
  #pendingBytes = 0;

  constructor(options: ObjectWriterOptions) {
    const { layout, name, bootId, room, onPlaced, onRetired } = options;
    this.#layout = layout;
    this.#folder = `${layout.incoming}/${name}`;
    this.#journal = new Journal({ directory: layout.journal, name, bootId, onRetired });
    this.#room = room;
    this.#onPlaced = onPlaced;
    mkdirSync(this.#folder);
    this.#files = new NewFiles(this.#folder);
  }

  /** Whether the object is in place, or will be with the next `flush`. */
  has(id: Digest): boolean {
    return this.#pending.has(id) || existsSync(objectPath(this.#layout, id));
  }

  /** Whether it was written, and nobody was told that it is in place. */
  isPending(id: Digest): boolean {
    return this.#pending.has(id) || this.#placed.has(id);
  }

  /**
   * Has the journal take the names of objects to come, while they are fetched: then showing them waits for no disk. Resolves when it
   * has. To be followed by `forget`. A failure is met by the next `flush`, which has to do it itself.
   * @param ids so many at most as `FORETELL` says
   */
  async foretell(ids: readonly Digest[]): Promise<void> {
    const foretelling = this.#journal.foretell(ids);
    this.#foretelling = foretelling;
    try {
      const generation = await foretelling;
      for (const id of ids) this.#foretold.set(id, generation);
      this.#placeForetold();
    } catch {
      // Nothing was foretold.
    } finally {
      if (this.#foretelling === foretelling) this.#foretelling = undefined;
    }
  }

  /** They do not come, or came. */
  forget(ids: Iterable<Digest>): void {
    for (const id of ids) this.#foretold.delete(id);
  }

  /** Writes a whole object. The caller has checked that `bytes` are what `id` says. */
  put(id: Digest, bytes: Uint8Array): void {
    if (this.#pending.has(id)) return;
    const file = this.begin(id, bytes.length);
    try {
      file.write(bytes, 0);
    } catch (error) {
      file.abort();
      throw error;
    }
    file.finish(bytes.length);
  }

  /**
   * Begins an object that is written part by part. It must end with `finish` or `abort`.
   * @param taken what of it will be written, in bytes: holes take none
   * @throws DiskFullError where there is no room for so much
   */
  begin(id: Digest, taken: number): ObjectFile {
    if (this.#room?.take(taken) === false) throw this.#full(id);
    let file: NewFile;
    try {
      file = this.#create();
    } catch (error) {
      this.#room?.give(taken);
      throw this.#translated(error, id);
    }
    const { descriptor } = file;
    let end = 0;
    return {
      write: (bytes, position) => {
        end = Math.max(end, position + bytes.length);
        for (let at = 0; at < bytes.length; ) {
          at += this.#guarded(id, () => writeSync(descriptor, bytes, at, bytes.length - at, position + at));
        }
      },
      finish: (size) => {
        const pending = { file, size, taken };
        try {
          if (end !== size) ftruncateSync(descriptor, size);
        } catch (error) {
          this.#drop(pending);
          throw this.#translated(error, id);
        }
        if (this.#pending.has(id)) return this.#drop(pending);
        if (this.#isForetold(id)) return this.#guarded(id, () => this.#place(id, pending));
        this.#pending.set(id, pending);
        this.#pendingBytes += size;
        if (this.#exceeds(4)) this.flush();
        else if (this.#exceeds(1)) this.show();
      },
      abort: () => this.#drop({ file, size: 0, taken }),
    };
  }

  /**
   * Takes a whole object that was written elsewhere in the cache's file system, its room taken and settled: it goes into place with the
   * next `flush`, or is removed where the object is there.
   */
  adopt(id: Digest, file: string, size: number): void {
    this.flush();
    this.#pending.set(id, { file, size, taken: 0 });
    this.#pendingBytes += size;
  }

  /** Has everything written so far visible soon, when names that are being foretold are on the disk, and told of. */
  show(): void {
    this.#tell();
    if (this.#pending.size === 0) return;
    const act = () => this.#attempt();
    if (this.#foretelling) this.#foretelling.then(act, act);
    else act();
  }

  /** Makes everything written so far visible, and tells of it; meets what an earlier `show` failed with. */
  flush(): void {
    const failure = this.#failure;
    this.#failure = undefined;
    try {
      if (failure) throw failure.error;
      const pending = [...this.#pending];
      this.#pending.clear();
      this.#pendingBytes = 0;
      this.#placeAll(pending);
    } finally {
      this.#tell();
    }
  }

  /** What is in the way of one is thrown, and the rest is dropped. */
  #placeAll(pending: readonly [Digest, Pending][]): void {
    if (pending.length === 0) return;
    let at = 0;
    try {
      this.#record(pending.map(([id]) => id));
      while (at < pending.length) this.#place(...pending[at++]!);
    } catch (error) {
      for (const [, one] of pending.slice(at)) this.#drop(one);
      throw this.#translated(error, pending[Math.max(0, at - 1)]![0]);
    }
  }

  /** Its name must be on the disk, in the journal that is open. */
  #place(id: Digest, pending: Pending): void {
    const { file, size, taken } = pending;
    const path = objectPath(this.#layout, id);
    let placed: boolean;
    try {
      placed = typeof file === 'string' ? moveInto(file, path) : this.#files.place(file, path);
    } catch (error) {
      this.#drop(pending);
      throw error;
    }
    // A second writer may have been faster. Its inode stays, since late/ and mounts may have it already.
    if (!placed) this.#room?.give(taken);
    // It may have been placed and removed since the last telling: what was taken counts both times.
    const before = this.#placed.get(id)?.taken;
    const counted = placed && this.#room ? taken + (before ?? 0) : before;
    this.#placed.set(id, counted === undefined ? { id, size } : { id, size, taken: counted });
    if (this.#placed.size >= TELL_FILES) this.#tell();
    else this.#telling ??= setTimeout(() => this.#tell(), TELL_AFTER);
  }

  /** Those that wait for their names, and have them. */
  #placeForetold(): void {
    const foretold = [...this.#pending].filter(([id]) => this.#isForetold(id));
    for (const [id, { size }] of foretold) {
      this.#pending.delete(id);
      this.#pendingBytes -= size;
    }
    try {
      this.#placeAll(foretold);
    } catch (error) {
      this.#failure ??= { error };
    }
  }

  #drop({ file, taken }: Pending): void {
    if (typeof file === 'string') rmSync(file, { force: true });
    else this.#files.drop(file);
    this.#room?.give(taken);
  }

  #tell(): void {
    clearTimeout(this.#telling);
    this.#telling = undefined;
    if (this.#placed.size === 0) return;
    const placed = [...this.#placed.values()];
    this.#placed = new Map();
    this.#onPlaced(placed);
  }

  /** A flush whose failure is met by the next one. */
  #attempt(): void {
    if (this.#failure) return;
    try {
      this.flush();
    } catch (error) {
      this.#failure = { error };
    }
  }

  #exceeds(batches: number): boolean {
    return this.#pending.size >= batches * BATCH_FILES || this.#pendingBytes >= batches * BATCH_BYTES;
  }

  #record(ids: readonly Digest[]): void {
    const { generation } = this.#journal;
    const known = (id: Digest) => this.#isForetold(id, generation);
    const unknown = ids.filter((id) => !known(id));
    if (unknown.length > 0) this.#journal.record(unknown);
    // Those that were known stood in a file that has ended meanwhile.
    if (this.#journal.generation !== generation && unknown.length < ids.length) this.#journal.record(ids.filter(known));
  }

  #isForetold(id: Digest, generation = this.#journal.generation): boolean {
    return generation !== undefined && this.#foretold.get(id) === generation;
  }

  /** To be called when writing pauses: lets the journal go to be sealed. */
  pause(): void {
    this.#attempt();
    this.#foretold.clear();
    this.#journal.retire();
  }

  /** Flushes and gives up the writer's name. */
  close(): void {
    this.flush();
    this.pause();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** As many files are open as wait for their names: where that is too many, these get them now. */
  #create(): NewFile {
    try {
      return this.#files.create();
    } catch (error) {
      if (!isErrno(error, 'EMFILE') || this.#pending.size === 0) throw error;
      this.flush();
      return this.#files.create();
    }
  }

  #guarded<T>(id: Digest, act: () => T): T {
    try {
      return act();
    } catch (error) {
      throw this.#translated(error, id);
    }
  }

  #translated(error: unknown, id: Digest): unknown {
    return isDiskFull(error) ? this.#full(id, error) : error;
  }

  #full(id: Digest, cause?: unknown): DiskFullError {
    return noRoom(this.#layout.directory, id, cause);
  }
}

/** That a cache is full. */
export function noRoom(cache: string, id: Digest, cause?: unknown): DiskFullError {
  return new DiskFullError(
    `the cache ${cache} has no room for object ${id}: free some with 'larder cache evict', or give it a larger disk or limit`,
    { cause, facts: { object: id, cache } },
  );
}

export function isFull(error: unknown): boolean {
  return error instanceof UnavailableError && error.facts.full === true;
}

/** An object on its way. What is never written reads as zeros and takes no space. */
export interface ObjectFile {
  write(bytes: Uint8Array, position: number): void;
  /** @param size the object's whole size in bytes */
  finish(size: number): void;
  abort(): void;
}
