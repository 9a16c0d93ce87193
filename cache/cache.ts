import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import type { Digest } from '../dataset/digest.ts';
import { isErrno, UnavailableError } from '../dataset/errors.ts';
import { syncfs } from '../system/calls.ts';
import { tryLock } from '../system/lock.ts';
import { idsIn, readJournals } from './journal.ts';
import { type Layout, latePath, layoutOf, makeLayout, objectPath } from './layout.ts';
import { ObjectWriter, type Placed } from './object-writer.ts';
import { openVerity, type Verity } from './verity.ts';
import type { VerityChoice } from './verity-choice.ts';

/** A node's cache, held by this process. What is in it is in its directory; nothing of it is remembered here. */
export interface Cache extends AsyncDisposable {
  readonly layout: Layout;
  readonly bootId: string;

  /** Whether the object is there, whole. */
  has(id: Digest): boolean;

  /** Where the object is, or will be. */
  objectPath(id: Digest): string;

  /** Gives a present object its second name, in late/; that it has it already is no error. ENOENT where it is not present. */
  ensureLate(id: Digest): void;

  /** Removes both names. What has the file open, or has its dentry in an overlay, keeps it. @returns whether it was there */
  remove(id: Digest): boolean;

  /** A writer for this thread. Whoever made it closes it. */
  writer(): ObjectWriter;

  /** A name for a writer on another thread. */
  writerName(): string;

  /** To be told of what a writer on another thread placed. */
  announce(placed: readonly Placed[]): void;

  /** Calls `listener` for every object that is placed from now on. */
  onPlaced(listener: (placed: readonly Placed[]) => void): void;

  /** Calls `listener` for every object that is removed from now on. */
  onRemoved(listener: (id: Digest) => void): void;

  /** Takes over the journal of a writer, also one on another thread: removed once what it names is on the disk. */
  adoptJournal(file: string): void;

  /** Resolves when everything that adopted journals name is on the disk. */
  sealed(): Promise<void>;

  close(): Promise<void>;
}

export interface OpenCacheOptions {
  /** Made if it is not there. */
  readonly directory: string;
  /** The kernel's; another one than a journal tells means that the machine went down since. */
  readonly bootId?: string;
  /** `auto`: objects get fs-verity once they are on the disk, where kernel and filesystem have it. */
  readonly verity?: VerityChoice;
  readonly onWarning?: (message: string) => void;
}

/**
 * Takes a cache over: sweeps what a killed daemon left half written, and, where the machine crashed, drops the objects that had
 * not reached the disk for certain.
 * @throws UnavailableError if another process has it
 */
export async function openCache({
  directory,
  bootId = currentBootId(),
  verity: useVerity = 'off',
  onWarning,
}: OpenCacheOptions): Promise<Cache> {
  const layout = layoutOf(directory);
  mkdirSync(directory, { recursive: true });
  const lock = tryLock(layout.lock, 'exclusive');
  if (!lock) {
    const owner = readFileSync(layout.lock, 'utf8').trim() || 'unknown';
    throw new UnavailableError(
      `the cache ${directory} is in use by process ${owner}: ask that daemon, or set LARDER_CACHE to another directory`,
      { facts: { cache: directory, pid: Number(owner) || undefined } },
    );
  }
  const descriptor = openSync(directory, 'r');
  const retired: string[] = [];
  try {
    writeFileSync(layout.lock, `${process.pid}\n`);
    makeLayout(layout);
    for (const name of readdirSync(layout.incoming))
      rmSync(`${layout.incoming}/${name}`, { recursive: true, force: true });
    retired.push(...recover(layout, bootId));
  } catch (error) {
    closeSync(descriptor);
    lock.release();
    throw error;
  }

  const listeners: ((placed: readonly Placed[]) => void)[] = [];
  const removalListeners: ((id: Digest) => void)[] = [];
  let sealing: Promise<void> | undefined;
  /** Tried out when there is something to protect: that waits for the disk. */
  let verity: Promise<Verity | undefined> | undefined = useVerity === 'off' ? Promise.resolve(undefined) : undefined;
  const session = randomBytes(6).toString('hex');
  const closing = new AbortController();
  let writers = 0;

  const seal = async () => {
    while (retired.length > 0) {
      const files = retired.splice(0);
      try {
        await syncfs(descriptor);
      } catch (error) {
        onWarning?.(
          `the disk of the cache ${directory} failed (${(error as Error).message}): dropping the objects that it may not have`,
        );
        dropObjects(layout, new Set(files));
      }
      // The kernel flushes each of them anew, which costs little where nothing is left to be flushed.
      for (const file of files) await protect(file);
      for (const file of files) rmSync(file, { force: true });
    }
  };

  const protect = async (journal: string) => {
    try {
      verity ??= openVerity(layout);
      const by = await verity;
      await by?.protect(idsIn(journal), closing.signal);
    } catch (error) {
      onWarning?.(`fs-verity is not used any more for objects of the cache ${directory}: ${(error as Error).message}`);
      verity = Promise.resolve(undefined);
    }
  };

  const startSealing = () => {
    sealing ??= seal().finally(() => {
      sealing = undefined;
    });
  };
  if (retired.length > 0) startSealing();

  const cache: Cache = {
    layout,
    bootId,
    has: (id) => existsSync(objectPath(layout, id)),
    objectPath: (id) => objectPath(layout, id),
    ensureLate: (id) => {
      try {
        linkSync(objectPath(layout, id), latePath(layout, id));
      } catch (error) {
        if (!isErrno(error, 'EEXIST')) throw error;
      }
    },
    remove: (id) => {
      const present = removeObject(layout, id);
      for (const listener of removalListeners) listener(id);
      return present;
    },
    writer: () =>
      new ObjectWriter({
        layout,
        name: cache.writerName(),
        bootId,
        onPlaced: cache.announce,
        onRetired: cache.adoptJournal,
      }),
    writerName: () => `${session}-${writers++}`,
    announce: (placed) => {
      for (const listener of listeners) listener(placed);
    },
    onPlaced: (listener) => {
      listeners.push(listener);
    },
    onRemoved: (listener) => {
      removalListeners.push(listener);
    },
    adoptJournal: (file) => {
      retired.push(file);
      startSealing();
    },
    sealed: async () => {
      while (sealing) await sealing;
    },
    close: async () => {
      closing.abort();
      await cache.sealed();
      closeSync(descriptor);
      lock.release();
    },
    [Symbol.asyncDispose]: () => cache.close(),
  };
  return cache;
}

/** Changes with every boot of the kernel. */
export function currentBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/**
 * Journals of this boot tell of objects that are whole in the page cache; those of another, of objects that may be torn.
 * @returns the journals, which go once the disk has what they tell, and what was done about them
 */
function recover(layout: Layout, bootId: string): string[] {
  const journals = readJournals(layout.journal);
  dropObjects(layout, new Set(journals.filter((journal) => journal.bootId !== bootId).map(({ file }) => file)));
  return journals.map(({ file }) => file);
}

function dropObjects(layout: Layout, journals: ReadonlySet<string>): void {
  for (const { file, ids } of readJournals(layout.journal)) {
    if (journals.has(file)) for (const id of ids()) removeObject(layout, id);
  }
}

function removeObject(layout: Layout, id: Digest): boolean {
  const object = objectPath(layout, id);
  const present = existsSync(object);
  // late/ first: after a crash in between, the object is still found where it is looked for first.
  rmSync(latePath(layout, id), { force: true });
  rmSync(object, { force: true });
  return present;
}
