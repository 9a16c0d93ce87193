import { randomUUID } from 'node:crypto';
import * as fs from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { syncDirectory } from '../../system/atomic.ts';
import { type Lock, tryLock } from '../../system/lock.ts';
import { isErrno } from '../errors.ts';
import type { Body } from './bucket.ts';

const open = promisify(fs.open);
const fsync = promisify(fs.fsync);
const writev = promisify(fs.writev);

/** At most so many buffers go into one writev(2): IOV_MAX. */
const VECTOR_LIMIT = 1024;

/**
 * Where a process puts what it has not finished: a folder of its own, locked for as long as the process lives. So a folder
 * whose lock is free belongs to a writer that crashed, and whoever comes next removes it.
 */
export class IncomingFolder {
  readonly #directory: string;
  readonly #lock: Lock;
  #next = 0;

  private constructor(directory: string, lock: Lock) {
    this.#directory = directory;
    this.#lock = lock;
  }

  static async create(parent: string): Promise<IncomingFolder> {
    await mkdir(parent, { recursive: true });
    await sweep(parent);
    for (;;) {
      const directory = join(parent, randomUUID());
      await mkdir(directory);
      // A sweeper may come between these two lines: then the lock or the folder is gone, and another is made.
      const lock = lockIn(directory);
      if (lock !== undefined) return new IncomingFolder(directory, lock);
    }
  }

  /** Writes a file whose bytes are on the disk when the promise resolves, under a temporary name. */
  async write(body: Body): Promise<{ readonly path: string; readonly info: fs.BigIntStats }> {
    const path = join(this.#directory, String(this.#next++));
    const descriptor = await open(path, 'wx', 0o666);
    try {
      await writeAll(descriptor, body);
      const time = uniqueTime();
      fs.futimesSync(descriptor, time, time);
      await fsync(descriptor);
      return { path, info: fs.fstatSync(descriptor, { bigint: true }) };
    } finally {
      fs.closeSync(descriptor);
    }
  }

  async close(): Promise<void> {
    await remove(this.#directory);
    this.#lock.release();
  }
}

/** Fsyncs directories; calls for one directory that come while it is under way share the next one. */
export class DirectorySyncs {
  readonly #states = new Map<string, { running: Promise<void>; next?: Promise<void> }>();

  async sync(directory: string): Promise<void> {
    const state = this.#states.get(directory);
    if (state === undefined) return await this.#start(directory);
    state.next ??= state.running.then(
      () => this.#start(directory),
      () => this.#start(directory),
    );
    await state.next;
  }

  #start(directory: string): Promise<void> {
    const running = syncDirectory(directory).finally(() => {
      if (this.#states.get(directory)?.next === undefined) this.#states.delete(directory);
    });
    this.#states.set(directory, { running });
    return running;
  }
}

async function writeAll(descriptor: number, body: Body): Promise<void> {
  let left: readonly Uint8Array[] = (body instanceof Uint8Array ? [body] : body).filter((part) => part.length > 0);
  while (left.length > 0) {
    let { bytesWritten } = await writev(descriptor, left.slice(0, VECTOR_LIMIT));
    let done = 0;
    while (done < left.length && bytesWritten >= left[done]!.length) bytesWritten -= left[done++]!.length;
    left = left.slice(done);
    if (bytesWritten > 0) left = [left[0]!.subarray(bytesWritten), ...left.slice(1)];
  }
}

/**
 * The time now in seconds, with microseconds that no two writes within a millisecond share. File systems stamp files by a clock
 * that stands still for milliseconds, and reuse inode numbers at once: with their own stamp, two objects could have one ETag.
 */
function uniqueTime(): number {
  const micros = Number((process.hrtime.bigint() / 1000n) % 1000n);
  return (Date.now() * 1000 + micros) / 1e6;
}

function lockIn(directory: string): Lock | undefined {
  try {
    return tryLock(join(directory, 'lock'), 'exclusive');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

async function sweep(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const directory = join(parent, name);
    using lock = lockIn(directory);
    if (lock !== undefined) await remove(directory);
  }
}

/** Once its lock has no name any more, another process may make one there anew. It has the folder then, and removes it in its turn. */
async function remove(directory: string): Promise<void> {
  try {
    await rm(directory, { recursive: true, force: true });
  } catch (error) {
    if (!isErrno(error, 'ENOTEMPTY')) throw error;
  }
}
