import type { Dirent } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrno } from '../dataset/errors.ts';

/** Files looked at at once. */
const AT_ONCE = 16;

/**
 * What the files of a folder and of those below it take on the disk, in bytes: blocks, so that holes count nothing. What goes
 * meanwhile is left out.
 * @param except names of its own that are not counted
 */
export async function folderUsage(folder: string, except: ReadonlySet<string> = new Set()): Promise<number> {
  const entries = (await absent(readdir(folder, { withFileTypes: true }))) ?? [];
  const usageOf = async (entry: Dirent): Promise<number> => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? await folderUsage(path) : ((await absent(lstat(path)))?.blocks ?? 0) * 512;
  };
  const counted = entries.filter(({ name }) => !except.has(name));
  let bytes = 0;
  for (let at = 0; at < counted.length; at += AT_ONCE) {
    for (const usage of await Promise.all(counted.slice(at, at + AT_ONCE).map(usageOf))) bytes += usage;
  }
  return bytes;
}

async function absent<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}
