import { mkdirSync, rmSync } from 'node:fs';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ObjectInfo } from '../../dataset/bucket/bucket.ts';
import { isDiskFull, isErrno } from '../../dataset/errors.ts';
import type { Room } from '../room.ts';
import { StoredObject } from './stored-object.ts';

/** Whole objects that nobody uses, kept open. */
const IDLE_OPEN = 64;

/** Objects of which not all is there; beyond that, the oldest that nobody uses is dropped. They do not survive a restart. */
const PARTIALS = 128;

/**
 * Objects kept on disk for neighbours, within a limit: the oldest goes first. Names are `<repository id>/<key>`; a whole object is the file
 * of its name below `whole/`, and others have temporary names below `incoming/`, which is emptied when the store is opened.
 */
export interface Store {
  /** One that is there, or is being fetched. Its file stays readable until what this gives is disposed of. */
  use(name: string): Promise<Use | undefined>;
  /** A new one, empty; undefined where there is no room for it. It must not be there. */
  create(name: string, info: ObjectInfo): Promise<Use | undefined>;
  /** Gives one that has all of its blocks its name. */
  keep(name: string, object: StoredObject): Promise<void>;
  drop(name: string, object?: StoredObject): void;
  /** Drops the oldest until so many bytes are gone. @returns how many went */
  release(bytes: number): number;
  readonly bytes: number;
  readonly objects: number;
  readonly limit: number;
  close(): Promise<void>;
}

export interface Use extends Disposable {
  readonly object: StoredObject;
}

export interface StoreOptions {
  /** Made if it is not there; the store has it to itself. */
  readonly directory: string;
  /** In bytes. */
  readonly limit: number;
  /** Of the disk: what is written is taken from it first. */
  readonly room?: Room | undefined;
}

interface Entry {
  readonly name: string;
  readonly bytes: number;
  path: string;
  whole: boolean;
  users: number;
  dropped: boolean;
  object: Promise<StoredObject | undefined> | undefined;
}

export async function openStore({ directory, limit, room }: StoreOptions): Promise<Store> {
  const incoming = join(directory, 'incoming');
  const whole = join(directory, 'whole');
  mkdirSync(whole, { recursive: true, mode: 0o700 });
  rmSync(incoming, { recursive: true, force: true });
  mkdirSync(incoming, { mode: 0o700 });
  /** The oldest first. */
  const entries = new Map<string, Entry>();
  const idle = new Set<Entry>();
  const partials = new Set<Entry>();
  let bytes = 0;
  let made = 0;
  let closed = false;

  for (const { name, path, size } of await present(whole)) {
    entries.set(name, { name, bytes: size, path, whole: true, users: 0, dropped: false, object: undefined });
    bytes += size;
  }

  function drop(entry: Entry): void {
    if (entry.dropped) return;
    entry.dropped = true;
    if (entries.get(entry.name) === entry) entries.delete(entry.name);
    partials.delete(entry);
    bytes -= entry.bytes;
    room?.change(entry.bytes);
    rmSync(entry.path, { force: true });
    if (entry.users === 0) shut(entry);
  }

  function shut(entry: Entry): void {
    idle.delete(entry);
    const { object } = entry;
    entry.object = undefined;
    void object?.then((opened) => opened?.close()).catch(() => {});
  }

  function dropOldest(): boolean {
    const [oldest] = entries.values();
    if (oldest === undefined) return false;
    drop(oldest);
    return true;
  }

  function makeRoom(size: number): boolean {
    if (size > limit / 4) return false;
    while (bytes + size > limit) dropOldest();
    while (room && !room.take(size)) if (!dropOldest()) return false;
    room?.settle(size);
    return true;
  }

  function useOf(entry: Entry, object: StoredObject): Use {
    let held = true;
    return {
      object,
      [Symbol.dispose]() {
        if (!held) return;
        held = false;
        entry.users -= 1;
        if (entry.users > 0) return;
        if (entry.dropped || closed) return shut(entry);
        if (!entry.whole) return;
        idle.add(entry);
        if (idle.size > IDLE_OPEN) for (const oldest of idle) return shut(oldest);
      },
    };
  }

  const store: Store = {
    async use(name) {
      const entry = entries.get(name);
      if (entry === undefined) return undefined;
      entry.users += 1;
      idle.delete(entry);
      entry.object ??= StoredObject.open(entry.path).catch((error) => {
        if (isErrno(error, 'ENOENT') || isErrno(error, 'EIO')) return undefined;
        throw error;
      });
      const object = await entry.object;
      if (object !== undefined) return useOf(entry, object);
      entry.users -= 1;
      drop(entry);
      return undefined;
    },

    async create(name, info) {
      if (info.size === 0 || !makeRoom(info.size)) return undefined;
      made += 1;
      const path = join(incoming, String(made));
      const entry: Entry = { name, bytes: info.size, path, whole: false, users: 1, dropped: false, object: undefined };
      bytes += info.size;
      let object: StoredObject;
      try {
        object = await StoredObject.create(path, info);
      } catch (error) {
        bytes -= info.size;
        room?.change(info.size);
        if (isDiskFull(error)) return undefined;
        throw error;
      }
      entry.object = Promise.resolve(object);
      const before = entries.get(name);
      if (before !== undefined) drop(before);
      entries.set(name, entry);
      partials.add(entry);
      if (partials.size > PARTIALS) {
        for (const partial of partials) {
          if (partial.users > 0) continue;
          drop(partial);
          break;
        }
      }
      return useOf(entry, object);
    },

    async keep(name, object) {
      const entry = entries.get(name);
      if (entry === undefined || entry.whole || (await entry.object) !== object) return;
      await object.finish();
      const path = join(whole, name);
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      if (entry.dropped) return;
      await rename(entry.path, path);
      entry.path = path;
      entry.whole = true;
      partials.delete(entry);
      // Dropped while it was renamed: under its old name.
      if (entry.dropped) await rm(path, { force: true });
    },

    drop(name, object) {
      const entry = entries.get(name);
      if (entry === undefined) return;
      if (object === undefined) return drop(entry);
      void entry.object?.then((opened) => {
        if (opened === object) drop(entry);
      });
    },

    release(wanted) {
      const before = bytes;
      while (before - bytes < wanted && dropOldest());
      return before - bytes;
    },

    get bytes() {
      return bytes;
    },
    get objects() {
      return entries.size;
    },
    limit,

    async close() {
      // What is in use is closed by its last user.
      closed = true;
      const open = [...entries.values()].filter(({ users }) => users === 0);
      await Promise.allSettled(
        open.map(async (entry) => {
          const object = await entry.object;
          entry.object = undefined;
          await object?.close();
        }),
      );
    },
  };
  while (bytes > limit) dropOldest();
  return store;
}

/** What is there whole, the oldest first. */
async function present(whole: string): Promise<{ name: string; path: string; size: number }[]> {
  const found = await readdir(whole, { recursive: true, withFileTypes: true });
  const files: { name: string; path: string; size: number; at: number }[] = [];
  for (const file of found) {
    if (!file.isFile()) continue;
    const path = join(file.parentPath, file.name);
    const { size, mtimeMs } = await stat(path);
    files.push({ name: path.slice(whole.length + 1), path, size, at: mtimeMs });
  }
  return files.sort((a, b) => a.at - b.at);
}
