import {
  type BigIntStats,
  chmodSync,
  closeSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { type ByteString, bufferOf, bytesOf, textOf } from '../dataset/byte-string.ts';
import type { Digest } from '../dataset/digest.ts';
import type { DirectoryEntry, Entry, FileEntry } from '../dataset/entry.ts';
import { ConflictError, isErrno, UnavailableError } from '../dataset/errors.ts';
import { DeepPaths, fsPath } from '../dataset/import/deep-path.ts';
import { isWithin, joinPath } from '../dataset/path.ts';
import { cloneFile, copyFileRangeAsync, flistxattr, fsetxattr, setxattr, syncfs, utimensat } from '../system/calls.ts';

export interface MaterializeOptions {
  /** A version's entries in path order. */
  readonly entries: AsyncIterable<readonly Entry[]>;
  /** The file with an object's content. All must be there: hydrate first. */
  readonly objectPath: (id: Digest) => string;
  /** Absolute; a directory that is not there yet, and appears only when it is complete. Best on the objects' filesystem. */
  readonly target: string;
  /**
   * Who uses the tree may write to it: no hard links, which would write into the cache. Otherwise bind it read-only.
   */
  readonly writable?: boolean;
  /**
   * Take a hard link, where the filesystem has no reflink, even if the object's mode, owner, times or attributes are not the entry's.
   * They are an inode's, not a name's: a link shows the object's. Without this, such a file is copied.
   */
  readonly approximate?: boolean;
  readonly signal?: AbortSignal;
}

export interface Materialized {
  readonly files: number;
  /** Files that share an object's inode; its blocks; or neither. */
  readonly linked: number;
  readonly cloned: number;
  readonly copied: number;
  readonly bytesCopied: number;
  /** Entries whose mode, owner, times or attributes are not the version's: by `approximate`, or for want of root. */
  readonly inexact: number;
}

/** Entries between two turns of the event loop. */
const SLICE = 64;

/**
 * A version as a plain directory, for where overlayfs cannot serve it: every object a hard link if its metadata are the entry's, else a
 * reflink, else a copy. What it holds is independent of any daemon, and of the cache's evicting.
 */
export async function materialize(options: MaterializeOptions): Promise<Materialized> {
  const { target, entries, signal } = options;
  const partial = `${target}.partial`;
  await rm(partial, { recursive: true, force: true });
  using tree = new Tree(partial, options);
  try {
    let count = 0;
    for await (const batch of entries) {
      for (const entry of batch) {
        await tree.add(entry);
        count += 1;
        if (count % SLICE === 0) {
          signal?.throwIfAborted();
          await turn();
        }
      }
    }
    signal?.throwIfAborted();
    tree.leaveAll();
    await syncAll(partial);
    publish(partial, target);
    return tree.done;
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
}

function publish(partial: string, target: string): void {
  try {
    renameSync(partial, target);
  } catch (error) {
    if (!isErrno(error, 'ENOTEMPTY') && !isErrno(error, 'EEXIST') && !isErrno(error, 'ENOTDIR')) throw error;
    throw new ConflictError(`${target} exists already and is not empty`, { cause: error, facts: { target } });
  }
  const parent = openSync(dirname(target), 'r');
  fsyncSync(parent);
  closeSync(parent);
}

async function syncAll(directory: string): Promise<void> {
  const fd = openSync(directory, 'r');
  try {
    await syncfs(fd);
  } finally {
    closeSync(fd);
  }
}

class Tree implements Disposable {
  readonly done = { files: 0, linked: 0, cloned: 0, copied: 0, bytesCopied: 0, inexact: 0 };
  readonly #root: ByteString;
  readonly #options: MaterializeOptions;
  readonly #isRoot = process.getuid?.() === 0;
  /** Directories whose times are set when all below them is there. */
  readonly #open: DirectoryEntry[] = [];
  /** Hard-link group to its first path. */
  readonly #groups = new Map<ByteString, ByteString>();
  readonly #deep = new DeepPaths();
  readonly #other = new DeepPaths();
  #canClone = true;

  constructor(root: string, options: MaterializeOptions) {
    this.#root = bytesOf(root);
    this.#options = options;
  }

  async add(entry: Entry): Promise<void> {
    while (this.#open.length > 0 && !isWithin(entry.path, this.#open.at(-1)!.path)) this.#leave();
    const at = this.#at(entry.path);
    if (entry.type === 'directory') {
      mkdirSync(at, { mode: 0o700 });
      this.#open.push(entry);
    } else if (entry.type === 'symlink') {
      symlinkSync(fsPath(entry.target), at);
      if (this.#isRoot) lchownSync(at, entry.uid, entry.gid);
      else this.#notOwned(entry);
      utimensat(at, 'omit', { seconds: entry.mtimeSeconds, nanos: entry.mtimeNanos });
    } else await this.#file(entry, at);
  }

  leaveAll(): void {
    while (this.#open.length > 0) this.#leave();
  }

  async #file(entry: FileEntry, at: string | Buffer): Promise<void> {
    this.done.files += 1;
    const first = entry.link === undefined ? undefined : this.#groups.get(entry.link);
    if (first !== undefined) {
      linkSync(this.#at(first, this.#other), at);
      return;
    }
    if (entry.link !== undefined) this.#groups.set(entry.link, entry.path);
    if (entry.content.kind === 'inline') {
      const fd = openSync(at, 'wx', 0o600);
      try {
        writeSync(fd, entry.content.bytes);
        this.#describe(fd, entry);
      } finally {
        closeSync(fd);
      }
      this.#setTime(entry, at);
      return;
    }
    await this.#object(entry, this.#options.objectPath(entry.content.id), at);
  }

  async #object(entry: FileEntry, object: string, at: string | Buffer): Promise<void> {
    const { writable, approximate } = this.#options;
    const from = openObject(object, entry);
    try {
      const status = fstatSync(from, { bigint: true });
      const sameMetadata = agrees(status, from, entry);
      if (!writable && sameMetadata && this.#link(object, at)) return;
      const to = openSync(at, 'wx', 0o600);
      let filled = false;
      try {
        filled = this.#clone(from, to);
        if (filled) this.done.cloned += 1;
        else if (writable || !approximate) {
          await this.#copy(from, to, entry.size);
          filled = true;
        }
        if (filled) this.#describe(to, entry);
      } finally {
        closeSync(to);
      }
      if (filled) this.#setTime(entry, at);
      else {
        rmSync(at);
        if (this.#link(object, at)) this.done.inexact += 1;
        else throw new UnavailableError(`${object} has as many links as its filesystem allows`);
      }
    } finally {
      closeSync(from);
    }
  }

  /** False where the filesystem takes no further link, or has none of this file. */
  #link(object: string, at: string | Buffer): boolean {
    try {
      linkSync(object, at);
      this.done.linked += 1;
      return true;
    } catch (error) {
      if (isErrno(error, 'EMLINK') || isErrno(error, 'EXDEV') || isErrno(error, 'EPERM')) return false;
      throw error;
    }
  }

  #clone(from: number, to: number): boolean {
    if (!this.#canClone) return false;
    try {
      cloneFile(from, to);
      return true;
    } catch (error) {
      if (!['ENOTSUP', 'EXDEV', 'EINVAL', 'ENOTTY', 'ENOSYS'].some((code) => isErrno(error, code))) throw error;
      this.#canClone = false;
      return false;
    }
  }

  async #copy(from: number, to: number, size: number): Promise<void> {
    for (let offset = 0; offset < size; ) {
      this.#options.signal?.throwIfAborted();
      const copied = await copyFileRangeAsync(from, offset, to, offset, Math.min(size - offset, 64 << 20));
      if (copied === 0) throw new UnavailableError('an object became shorter while it was copied');
      offset += copied;
    }
    this.done.copied += 1;
    this.done.bytesCopied += size;
  }

  /** Owner before mode: a change of owner takes set-user-id away. */
  #describe(fd: number, entry: FileEntry): void {
    if (this.#isRoot) fchownSync(fd, entry.uid, entry.gid);
    else this.#notOwned(entry);
    for (const { name, value } of entry.xattrs ?? []) fsetxattr(fd, bufferOf(name), value);
    fchmodSync(fd, entry.mode);
  }

  #setTime(entry: FileEntry, at: string | Buffer): void {
    utimensat(at, 'omit', { seconds: entry.mtimeSeconds, nanos: entry.mtimeNanos });
  }

  #notOwned(entry: Entry): void {
    if (entry.uid !== process.getuid?.() || entry.gid !== process.getgid?.()) this.done.inexact += 1;
  }

  #leave(): void {
    const entry = this.#open.pop()!;
    const at = this.#at(entry.path);
    if (this.#isRoot) lchownSync(at, entry.uid, entry.gid);
    else this.#notOwned(entry);
    for (const { name, value } of entry.xattrs ?? []) setxattr(at, bufferOf(name), value);
    chmodSync(at, entry.mode);
    utimensat(at, 'omit', { seconds: entry.mtimeSeconds, nanos: entry.mtimeNanos });
  }

  #at(path: ByteString, deep = this.#deep): string | Buffer {
    return fsPath(deep.reach(path === '' ? this.#root : joinPath(this.#root, path)));
  }

  [Symbol.dispose](): void {
    this.#deep.close();
    this.#other.close();
  }
}

function openObject(object: string, entry: FileEntry): number {
  try {
    return openSync(object, 'r');
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
    throw new UnavailableError(
      `the content of '${textOf(entry.path)}' is not in the cache: hydrate the version first`,
      {
        cause: error,
        facts: { path: textOf(entry.path) },
      },
    );
  }
}

/** Whether an object's inode has the entry's metadata. */
function agrees(status: BigIntStats, fd: number, entry: FileEntry): boolean {
  return (
    Number(status.mode & 0o7777n) === entry.mode &&
    Number(status.uid) === entry.uid &&
    Number(status.gid) === entry.gid &&
    status.mtimeNs === BigInt(entry.mtimeSeconds) * 1_000_000_000n + BigInt(entry.mtimeNanos) &&
    entry.xattrs === undefined &&
    flistxattr(fd).every((name) => !name.startsWith('user.'))
  );
}
