import { closeSync, openSync, rmSync, writeFileSync } from 'node:fs';
import type { Digest } from '../dataset/digest.ts';
import { isErrno } from '../dataset/errors.ts';
import { enableVerity } from '../system/calls.ts';
import { type Layout, objectPath } from './layout.ts';

/** How many objects are made so at a time. */
const AT_ONCE = 4;

/** What says that there is no fs-verity: in the kernel, on the filesystem, or in how it was made. */
const REFUSALS = ['ENOTSUP', 'ENOTTY', 'ENOSYS', 'EINVAL'];

/** Has the kernel check objects whenever it reads them from the disk: a page that is damaged is an I/O error then, not other bytes. */
export interface Verity {
  /** Objects that are on the disk already: the kernel flushes each before it goes on. Those that are gone are left out. */
  protect(ids: Iterable<Digest>, signal: AbortSignal): Promise<void>;
}

/** Tries it out on a file of its own. @returns undefined where there is no fs-verity */
export async function openVerity(layout: Layout): Promise<Verity | undefined> {
  const trial = `${layout.incoming}/verity-trial`;
  writeFileSync(trial, 'x', { mode: 0o444, flag: 'wx' });
  try {
    await enable(trial);
  } catch (error) {
    if (REFUSALS.some((code) => isErrno(error, code))) return undefined;
    throw error;
  } finally {
    rmSync(trial, { force: true });
  }
  return {
    async protect(ids, signal) {
      const iterator = ids[Symbol.iterator]();
      const worker = async () => {
        for (let next = iterator.next(); !next.done && !signal.aborted; next = iterator.next()) {
          try {
            await enable(objectPath(layout, next.value));
          } catch (error) {
            // Evicted, done before, or no room for its digests: it stays as it is.
            if (!['ENOENT', 'EEXIST', 'ENOSPC', 'EDQUOT'].some((code) => isErrno(error, code))) throw error;
          }
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, worker));
    },
  };
}

async function enable(path: string): Promise<void> {
  const descriptor = openSync(path, 'r');
  try {
    await enableVerity(descriptor, path);
  } finally {
    closeSync(descriptor);
  }
}
