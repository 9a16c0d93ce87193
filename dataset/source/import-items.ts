import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { acquireLock } from '../../system/lock.ts';
import { type ByteString, textOf } from '../byte-string.ts';
import { markSweeps } from '../collect/guard.ts';
import { type ChunkSink, type CommitOptions, type CommitResult, commitChanges } from '../commit.ts';
import type { DirectoryEntry, FileEntry, SymlinkEntry } from '../entry.ts';
import { InvalidError, UnavailableError } from '../errors.ts';
import { CHUNK_MAX } from '../import/chunker.ts';
import { findAncestor } from '../import.ts';
import { type EntryChange, readEntries } from '../manifest.ts';
import { mapAhead } from '../map-ahead.ts';
import { isWithin } from '../path.ts';
import { readBranch } from '../refs.ts';
import type { Repository } from '../repository.ts';
import { ArchiveEntries, type SkippedMembers } from './archive-entries.ts';
import { changesBetween, type Step } from './changes-between.ts';
import { entryChanges, warnOfSkipped } from './import-archive.ts';
import { nothing } from './import-listing.ts';
import { Ingest } from './ingest.ts';
import { StampCache, stampCacheFile } from './stamp-cache.ts';
import { decompressed } from './tar/decompress.ts';
import { readTar } from './tar/read-tar.ts';

/** Something that a source has at a path. */
export type Item =
  | DirectoryEntry
  | SymlinkEntry
  | {
      /** `archive`: its members are to be at the path, below a directory. */
      readonly type: 'file' | 'archive';
      readonly path: ByteString;
      /** How the source calls it. */
      readonly key: string;
      /** In bytes, as it was listed. */
      readonly size: number;
      /** Changes whenever the bytes do. */
      readonly stamp: string;
    };

export type FileItem = Exclude<Item, DirectoryEntry | SymlinkEntry>;

/** An item's bytes, and what they are: it may have changed since it was listed. */
export interface OpenItem {
  readonly entry: Omit<FileEntry, 'content' | 'size' | 'path' | 'type'>;
  readonly stamp: string;
  /** How many bytes there are to be, if that is known. */
  readonly size?: number;
  readonly body: AsyncIterable<Buffer>;
}

export interface ItemsImportOptions extends Pick<CommitOptions, 'meta' | 'message' | 'author' | 'from' | 'signal'> {
  readonly repository: Repository;
  readonly dataset: string;
  readonly branch: string;
  /** Where the items come from and how they are taken: by it, the next import knows what has not changed. */
  readonly source: string;
  /** In path order, every directory before what is in it. */
  readonly items: AsyncIterable<readonly Item[]>;
  /** Undefined where it is gone. */
  readonly open: (item: FileItem, signal: AbortSignal) => Promise<OpenItem | undefined>;
  readonly onProgress?: (progress: ItemsProgress) => void;
  readonly onWarning?: (message: string) => void;
  readonly temporary?: string;
  /** Read everything, also what looks unchanged. */
  readonly checksum?: boolean;
}

export interface ItemsProgress {
  readonly phase: string;
  /** Items looked at. */
  readonly seen: number;
  /** Read so far. */
  readonly files: number;
  readonly bytes: number;
}

export interface ItemsImportResult extends CommitResult {
  readonly seen: number;
  readonly skipped: SkippedMembers;
}

/** Items that are read at a time, and what their chunks may take in memory while they are cut. */
const AT_ONCE = 24;
const CUTTING_BYTES = 4 * CHUNK_MAX;

/** Makes a version of what a source has, with its bytes. What has the stamp that it had at the last import is not read. */
export async function importItems(options: ItemsImportOptions): Promise<ItemsImportResult> {
  const { repository, dataset, branch, onProgress, onWarning, temporary } = options;
  const stopping = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stopping.signal]) : stopping.signal;
  const file = stampCacheFile(repository.id, options);
  await mkdir(dirname(file), { recursive: true });
  await using stack = new AsyncDisposableStack();
  // What is still being read when something fails is of no use.
  stack.defer(() => stopping.abort(new Error('the import has ended')));
  // Another import from the same place goes first: this one then finds what it did.
  stack.use((await acquireLock(`${file}.lock`, 'exclusive', { signal }))!);
  const stamps = stack.use(new StampCache(file));
  const since = await markSweeps(repository, signal);
  const ref = await readBranch(repository, dataset, branch);
  const known = stamps.version;
  const base = ref && known !== undefined ? await findAncestor(repository, ref.version, known) : undefined;
  if (base === undefined) stamps.clear();

  /** Of which the entries are not given yet. */
  const archives = new Set<ArchiveEntries>();
  stack.defer(() => {
    for (const each of archives) each[Symbol.dispose]();
  });
  const read = { files: 0, bytes: 0 };
  const skipped: SkippedMembers = { devices: 0, fifos: 0 };
  let seen = 0;
  const report = () => onProgress?.({ phase: 'reading', seen, ...read });

  async function* counted(): AsyncGenerator<readonly Item[]> {
    for await (const batch of options.items) {
      seen += batch.length;
      report();
      yield batch;
    }
  }
  const isSame = (item: Item, before: { readonly type: string }): boolean => {
    if (item.type === 'directory' || item.type === 'symlink') return sameEntry(item, before);
    const type = item.type === 'archive' ? 'directory' : 'file';
    return before.type === type && options.checksum !== true && stamps.get(item.path) === item.stamp;
  };
  async function* changes(sink: ChunkSink): AsyncGenerator<EntryChange[]> {
    const ingest = stack.use(new Ingest(sink));
    const cutting = new Room(CUTTING_BYTES);
    const before = base ? readEntries(repository, base.root, { signal }) : nothing();
    const steps = changesBetween<Item, { path: ByteString; type: string }>(counted(), before, { isSame });
    for await (const ready of mapAhead(grouped(steps), AT_ONCE, (group) => resolve(group, ingest, cutting))) {
      yield* ready();
      report();
    }
    await sink.flush();
  }

  /** Gives the changes of one group once they are known; called in their order. */
  async function resolve(group: Group, ingest: Ingest, cutting: Room): Promise<() => AsyncGenerator<EntryChange[]>> {
    if (Array.isArray(group)) {
      return async function* () {
        for (const change of group) if (change.kind === 'delete') stamps.remove(change.path);
        yield [...group];
      };
    }
    const item = group as FileItem;
    const bytes = Math.min(item.size, CHUNK_MAX);
    await cutting.enter(bytes);
    let isInside = true;
    const leave = () => {
      if (isInside) cutting.leave(bytes);
      isInside = false;
    };
    try {
      signal?.throwIfAborted();
      const open = await options.open(item, signal);
      if (open === undefined) {
        onWarning?.(`'${textOf(item.path)}' went while it was imported`);
        return async function* () {
          stamps.remove(item.path);
          yield [{ kind: 'delete', path: item.path }];
        };
      }
      if (item.type === 'archive') return await takeArchive(item, open, ingest);
      const { size, content } = await ingest.take(open.body);
      leave();
      if (open.size !== undefined && size !== open.size)
        throw new UnavailableError(`'${textOf(item.path)}' gave ${size} bytes instead of ${open.size}: import again`, {
          facts: { path: textOf(item.path) },
        });
      read.files++;
      read.bytes += size;
      const entry: FileEntry = { type: 'file', path: item.path, ...open.entry, size, content: await content };
      return async function* () {
        stamps.set(item.path, open.stamp);
        yield [{ kind: 'put', entry }];
      };
    } finally {
      leave();
    }
  }

  async function takeArchive(item: FileItem, open: OpenItem, ingest: Ingest) {
    const taken = new ArchiveEntries(ingest, { directory: temporary });
    archives.add(taken);
    for await (const member of readTar(decompressed(open.body, item.key), item.key)) {
      signal?.throwIfAborted();
      await taken.take(member, item.path);
    }
    await taken.finish();
    read.files += taken.files;
    read.bytes += taken.bytes;
    skipped.devices += taken.skipped.devices;
    skipped.fifos += taken.skipped.fifos;
    const directory: DirectoryEntry = { type: 'directory', path: item.path, ...open.entry, mode: 0o755 };
    return async function* (): AsyncGenerator<EntryChange[]> {
      const before = base ? readEntries(repository, base.root, { prefix: item.path, signal }) : nothing();
      yield* entryChanges(taken.tree(directory), before);
      archives.delete(taken);
      taken[Symbol.dispose]();
      stamps.set(item.path, open.stamp);
    };
  }

  const { message, author, meta, from } = options;
  const commit = { repository, dataset, branch, message, author, meta, from, signal };
  const result = await commitChanges({ ...commit, base, head: { ref }, since, changes });
  stamps.commit(result.version.id);
  warnOfSkipped(skipped, onWarning);
  return { ...result, read, seen, skipped };
}

/** What a thread of work takes: changes that need nothing read, or one file. */
type Group = EntryChange[] | FileItem;

async function* grouped(steps: AsyncIterable<readonly Step<Item>[]>): AsyncGenerator<Group> {
  for await (const batch of steps) {
    let plain: EntryChange[] = [];
    for (const step of batch) {
      if (step.kind === 'delete') plain.push(step);
      else if (step.value.type === 'directory' || step.value.type === 'symlink')
        plain.push({ kind: 'put', entry: step.value });
      else {
        if (plain.length > 0) yield plain;
        plain = [];
        yield step.value;
      }
    }
    if (plain.length > 0) yield plain;
  }
}

function sameEntry(item: DirectoryEntry | SymlinkEntry, before: { readonly type: string }): boolean {
  if (item.type !== before.type) return false;
  const other = before as DirectoryEntry | SymlinkEntry;
  return JSON.stringify(plainOf(item)) === JSON.stringify(plainOf(other));
}

function plainOf(entry: DirectoryEntry | SymlinkEntry): unknown[] {
  const { mode, uid, gid, mtimeSeconds, mtimeNanos, xattrs = [] } = entry;
  const attributes = xattrs.map(({ name, value }) => [name, value.toString('latin1')]);
  return [entry.type === 'symlink' && entry.target, mode, uid, gid, mtimeSeconds, mtimeNanos, attributes];
}

/** Checks that no archive is opened into what the source has otherwise. */
export async function* checkArchives(batches: AsyncIterable<readonly Item[]>): AsyncGenerator<readonly Item[]> {
  let last: Item | undefined;
  for await (const batch of batches) {
    for (const item of batch) {
      if (last !== undefined && (last.type === 'archive' || (item.type === 'archive' && last.path === item.path))) {
        if (isWithin(item.path, last.path)) {
          const [archive, other] = last.type === 'archive' ? [last, item] : [item as FileItem, last];
          throw new InvalidError(
            `'${archive.key}' would be opened into '${textOf(archive.path)}', where '${textOf(other.path)}' is too: rename one, or import without '--expand'`,
            { facts: { archive: archive.key, path: textOf(other.path) } },
          );
        }
      }
      last = item;
    }
    yield batch;
  }
}

const ARCHIVE = /\.(?:tar|tar\.gz|tgz|tar\.zst|tzst)$/i;

/** The path without an archive's suffix; undefined where it has none. */
export function archiveFolder(path: ByteString): ByteString | undefined {
  const folder = path.replace(ARCHIVE, '') as ByteString;
  return folder === path || folder === '' || folder.endsWith('/') ? undefined : folder;
}

/** A number of bytes that may be in use; who comes first, goes in first. */
class Room {
  #free: number;
  readonly #waiting: { readonly bytes: number; readonly go: () => void }[] = [];

  constructor(bytes: number) {
    this.#free = bytes;
  }

  enter(bytes: number): Promise<void> | undefined {
    if (this.#waiting.length === 0 && bytes <= this.#free) {
      this.#free -= bytes;
      return undefined;
    }
    return new Promise((go) => this.#waiting.push({ bytes, go }));
  }

  leave(bytes: number): void {
    this.#free += bytes;
    for (let next = this.#waiting[0]; next !== undefined && next.bytes <= this.#free; next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#free -= next.bytes;
      next.go();
    }
  }
}
