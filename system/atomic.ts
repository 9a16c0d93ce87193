import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { type FileHandle, link, mkdir, open, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';

// Cheaper than a FileHandle: a directory is synced for every few objects stored.
const openFile = promisify(fs.open);
const fsync = promisify(fs.fsync);

/**
 * Puts `data` at `path`, whole or not at all: a reader or a crash sees the old file or the new one. Durable when the promise
 * resolves. Concurrent writers do not harm each other; the last one wins.
 */
export async function writeFileAtomic(
  path: string,
  data: string | Uint8Array,
  options: { readonly mode?: number } = {},
): Promise<void> {
  await viaTemporary(path, data, options, (temporary) => rename(temporary, path));
}

/** As `writeFileAtomic`, but only where nothing is there yet. @returns whether this call wrote it */
export async function createFileAtomic(
  path: string,
  data: string | Uint8Array,
  options: { readonly mode?: number } = {},
): Promise<boolean> {
  return await viaTemporary(path, data, options, async (temporary) => {
    try {
      await link(temporary, path);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
      throw error;
    } finally {
      await unlink(temporary);
    }
  });
}

/** Makes the names in a directory durable: what was created, renamed or removed in it before. */
export async function syncDirectory(path: string): Promise<void> {
  const descriptor = await openFile(path, 'r');
  try {
    await fsync(descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
}

/** Makes `path` and what it lacks above it, durably. @returns the outermost directory that was made, if any */
export async function makeDirectory(
  path: string,
  options: { readonly mode?: number } = {},
): Promise<string | undefined> {
  const made = await mkdir(path, { recursive: true, mode: options.mode });
  if (made === undefined) return undefined;
  for (let at = path; at !== dirname(made); at = dirname(at)) await syncDirectory(dirname(at));
  return made;
}

async function viaTemporary<T>(
  path: string,
  data: string | Uint8Array,
  options: { readonly mode?: number },
  publish: (temporary: string) => Promise<T>,
): Promise<T> {
  const temporary = `${path}.${process.pid}-${randomBytes(6).toString('hex')}.tmp`;
  const handle: FileHandle = await open(temporary, 'wx', options.mode ?? 0o666);
  let result: T;
  try {
    try {
      await handle.writeFile(data);
      await handle.sync();
    } finally {
      await handle.close();
    }
    result = await publish(temporary);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
  await syncDirectory(dirname(path));
  return result;
}
