import * as fs from 'node:fs';
import { link, mkdir, readdir, rename, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { makeDirectory } from '../../system/atomic.ts';
import { acquireLock, type Lock } from '../../system/lock.ts';
import { ConflictError, InvalidError, isErrno, NotFoundError, UnavailableError } from '../errors.ts';
import type {
  Body,
  Bucket,
  BucketObject,
  GetOptions,
  ListedObject,
  ListOptions,
  ObjectInfo,
  PutOptions,
} from './bucket.ts';
import { DirectorySyncs, IncomingFolder } from './directory-writer.ts';
import { validateKey } from './keys.ts';

const open = promisify(fs.open);
const read = promisify(fs.read);

/** Ours, beside the objects: unfinished writes and locks. No key begins with a dot. */
const PRIVATE_FOLDER = '.larder';
/** Locks are shared by the keys that fall on the same one of so many. */
const LOCKS = 256;
/** What is read at once, in bytes. A body holds two of these. */
const BLOCK_BYTES = 1024 * 1024;
/** How many objects a listing asks the file system about at once. */
const STATS_AT_ONCE = 16;

/**
 * A bucket in a directory of a local file system: the object with key `a/b` is the file `a/b`. Safe between processes: a write is
 * a file under a temporary name, fsynced, then renamed or linked to its own; conditions are checked under flock(2). An ETag is
 * made of inode, size and time, so no object is read for it.
 * @param root is made by the first write
 */
export function directoryBucket(root: string): Bucket {
  return new DirectoryBucket(root);
}

class DirectoryBucket implements Bucket {
  readonly name: string;
  readonly #root: string;
  readonly #directories = new Set<string>();
  readonly #syncs = new DirectorySyncs();
  #incoming: Promise<IncomingFolder> | undefined;

  constructor(root: string) {
    this.name = root;
    this.#root = root;
  }

  async get(key: string, options: GetOptions = {}): Promise<BucketObject> {
    const path = this.#pathOf(key);
    options.signal?.throwIfAborted();
    const descriptor = await this.#open(key, path);
    let handedOver = false;
    try {
      const file = fs.fstatSync(descriptor, { bigint: true });
      if (!file.isFile()) throw this.#notFound(key);
      const info = infoOf(file);
      if (options.ifMatch !== undefined && options.ifMatch !== info.etag) throw this.#changed(key);
      const { offset, length } = options.range ?? { offset: 0, length: info.size };
      if (options.range !== undefined && !(offset >= 0 && length >= 1 && offset + length <= info.size))
        throw new InvalidError(`${key} in ${this.name} has ${info.size} bytes, none of ${length} from ${offset}`, {
          facts: { key, size: info.size, offset, length },
        });
      if (length <= BLOCK_BYTES) {
        const block = await this.#read(key, descriptor, offset, length);
        return { ...info, body: oneBlock(block) };
      }
      handedOver = true;
      return { ...info, body: this.#blocks(key, descriptor, offset, length, options.signal) };
    } finally {
      if (!handedOver) fs.closeSync(descriptor);
    }
  }

  async head(key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    signal?.throwIfAborted();
    return await this.#infoAt(this.#pathOf(key));
  }

  async put(key: string, body: Body, options: PutOptions = {}): Promise<string> {
    const path = this.#pathOf(key);
    const { condition, signal } = options;
    signal?.throwIfAborted();
    if (condition === 'absent' && (await this.#infoAt(path)) !== undefined) throw this.#exists(key);
    try {
      const written = await (await this.#incomingFolder()).write(body);
      try {
        signal?.throwIfAborted();
        await this.#publish(key, written.path, path, condition, signal);
      } catch (error) {
        await unlink(written.path).catch(() => undefined);
        throw error;
      }
      await this.#syncs.sync(dirname(path));
      return infoOf(written.info).etag;
    } catch (error) {
      throw this.#translated(error, key);
    }
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1);
    if (folder !== '') validateKey(folder.slice(0, -1));
    yield* this.#listFolder(folder, prefix, options.after ?? '', options.signal);
  }

  async delete(key: string, options: { readonly ifMatch?: string; readonly signal?: AbortSignal } = {}): Promise<void> {
    const path = this.#pathOf(key);
    if ((await this.#infoAt(path)) === undefined) return;
    using _ = await this.#lock(key, options.signal);
    const found = await this.#infoAt(path);
    if (found === undefined) return;
    if (options.ifMatch !== undefined && options.ifMatch !== found.etag) throw this.#changed(key);
    await unlink(path);
    await this.#syncs.sync(dirname(path));
  }

  async close(): Promise<void> {
    const incoming = this.#incoming;
    this.#incoming = undefined;
    await (await incoming)?.close();
  }

  #pathOf(key: string): string {
    return join(this.#root, validateKey(key));
  }

  async #publish(
    key: string,
    temporary: string,
    path: string,
    condition: PutOptions['condition'],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    await this.#makeFolder(dirname(path));
    if (condition === 'absent') {
      // link(2) fails where the name exists: that is the whole condition, and needs no lock.
      try {
        await this.#withFolder(path, () => link(temporary, path));
      } catch (error) {
        throw isErrno(error, 'EEXIST') ? this.#exists(key) : error;
      }
      await unlink(temporary);
      return;
    }
    // Also without a condition: between another's check and its rename, nothing may change.
    using _ = await this.#lock(key, signal);
    if (condition !== undefined) {
      const found = await this.#infoAt(path);
      if (found?.etag !== condition.etag) throw this.#changed(key);
    }
    await this.#withFolder(path, () => rename(temporary, path));
  }

  async #incomingFolder(): Promise<IncomingFolder> {
    this.#incoming ??= IncomingFolder.create(join(this.#root, PRIVATE_FOLDER, 'incoming'));
    const incoming = this.#incoming;
    try {
      return await incoming;
    } catch (error) {
      if (this.#incoming === incoming) this.#incoming = undefined;
      throw error;
    }
  }

  /** Runs `act`, once more where the folder of `path` was removed behind our back. */
  async #withFolder(path: string, act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
      this.#directories.delete(dirname(path));
      await this.#makeFolder(dirname(path));
      await act();
    }
  }

  async #makeFolder(directory: string): Promise<void> {
    if (this.#directories.has(directory)) return;
    await makeDirectory(directory);
    this.#directories.add(directory);
  }

  async #lock(key: string, signal: AbortSignal | undefined): Promise<Lock> {
    const folder = join(this.#root, PRIVATE_FOLDER, 'locks');
    if (!this.#directories.has(folder)) {
      await mkdir(folder, { recursive: true });
      this.#directories.add(folder);
    }
    let sum = 0;
    for (let i = 0; i < key.length; i++) sum = (Math.imul(sum, 31) + key.charCodeAt(i)) >>> 0;
    const lock = await acquireLock(join(folder, String(sum % LOCKS)), 'exclusive', { signal });
    return lock!;
  }

  async #infoAt(path: string): Promise<ObjectInfo | undefined> {
    try {
      const file = await stat(path, { bigint: true });
      return file.isFile() ? infoOf(file) : undefined;
    } catch (error) {
      if (isErrno(error, 'ENOENT') || isErrno(error, 'ENOTDIR')) return undefined;
      throw error;
    }
  }

  async #open(key: string, path: string): Promise<number> {
    try {
      return await open(path, 'r');
    } catch (error) {
      throw isErrno(error, 'ENOENT') || isErrno(error, 'ENOTDIR')
        ? this.#notFound(key, error)
        : this.#translated(error, key);
    }
  }

  async #read(key: string, descriptor: number, offset: number, length: number): Promise<Buffer> {
    const block = Buffer.allocUnsafeSlow(length);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await read(descriptor, block, done, length - done, offset + done).catch(
        (error: unknown) => {
          throw this.#translated(error, key);
        },
      );
      if (bytesRead === 0)
        throw new UnavailableError(`${key} in ${this.name} became shorter while it was read`, { facts: { key } });
      done += bytesRead;
    }
    return block;
  }

  async *#blocks(
    key: string,
    descriptor: number,
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer> {
    const end = offset + length;
    const readAt = (at: number) => this.#read(key, descriptor, at, Math.min(BLOCK_BYTES, end - at));
    let ahead: Promise<Buffer> | undefined;
    try {
      ahead = readAt(offset);
      for (let at = offset; at < end; at += BLOCK_BYTES) {
        signal?.throwIfAborted();
        const block: Buffer = await ahead!;
        ahead = at + BLOCK_BYTES < end ? readAt(at + BLOCK_BYTES) : undefined;
        yield block;
      }
    } finally {
      // The descriptor must outlive the read that is under way.
      await ahead?.catch(() => undefined);
      fs.closeSync(descriptor);
    }
  }

  async *#listFolder(
    folder: string,
    prefix: string,
    after: string,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<ListedObject> {
    signal?.throwIfAborted();
    const names: string[] = [];
    let found: fs.Dirent[];
    try {
      found = await readdir(join(this.#root, folder), { withFileTypes: true });
    } catch (error) {
      if (isErrno(error, 'ENOENT') || isErrno(error, 'ENOTDIR')) return;
      throw this.#translated(error, folder);
    }
    for (const item of found) {
      if (item.name.startsWith('.')) continue;
      // Keys of a folder sort by its name and a slash.
      const key = folder + item.name + (item.isDirectory() ? '/' : '');
      if (key.startsWith(prefix) && (key > after || (key.endsWith('/') && after.startsWith(key)))) names.push(key);
    }
    names.sort((a, b) => (a < b ? -1 : 1));
    for (let i = 0; i < names.length; ) {
      const key = names[i]!;
      if (key.endsWith('/')) {
        yield* this.#listFolder(key, prefix, after, signal);
        i += 1;
        continue;
      }
      let end = i + 1;
      while (end < names.length && end - i < STATS_AT_ONCE && !names[end]!.endsWith('/')) end += 1;
      const keys = names.slice(i, end);
      const infos = await Promise.all(keys.map((each) => this.#infoAt(join(this.#root, each))));
      for (let j = 0; j < keys.length; j++) {
        const info = infos[j];
        if (info !== undefined) yield { key: keys[j]!, ...info };
      }
      i = end;
    }
  }

  #notFound(key: string, cause?: unknown): NotFoundError {
    return new NotFoundError(`there is no ${key} in ${this.name}`, { cause, facts: { key } });
  }

  #exists(key: string): ConflictError {
    return new ConflictError(`${key} exists already in ${this.name}`, { facts: { key } });
  }

  #changed(key: string): ConflictError {
    return new ConflictError(`${key} in ${this.name} was changed or removed by someone else`, { facts: { key } });
  }

  /** What may succeed later as our kind of error; another kind stays what it is. */
  #translated(error: unknown, key: string): unknown {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT')
      return new UnavailableError(`${key} cannot be written: no space is left in ${this.name}`, {
        cause: error,
        facts: { key },
      });
    if (code === 'EIO' || code === 'ESTALE' || code === 'EMFILE' || code === 'ENFILE' || code === 'ETIMEDOUT')
      return new UnavailableError(`${key} in ${this.name} cannot be reached (${code})`, {
        cause: error,
        facts: { key },
      });
    if (code === 'EISDIR' || code === 'EEXIST' || code === 'ENOTDIR' || code === 'ENOTEMPTY')
      return new InvalidError(`${key} cannot be an object of ${this.name}: a folder or an object is in its way`, {
        cause: error,
        facts: { key },
      });
    return error;
  }
}

function infoOf(file: fs.BigIntStats): ObjectInfo {
  return {
    size: Number(file.size),
    etag: `${file.ino.toString(16)}-${file.size.toString(16)}-${file.mtimeNs.toString(16)}`,
    modified: new Date(Number(file.mtimeNs / 1_000_000n)),
  };
}

async function* oneBlock(block: Buffer): AsyncGenerator<Buffer> {
  if (block.length > 0) yield block;
}
