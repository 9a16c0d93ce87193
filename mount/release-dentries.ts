import { closeSync, openSync, readFileSync } from 'node:fs';
import { bufferOf } from '../dataset/byte-string.ts';
import { isErrno } from '../dataset/errors.ts';
import { fsconfigReconfigure, fsconfigSet, fspick } from '../system/calls.ts';
import { type MountRecord, readMountTable } from './mount-table.ts';

const O_PATH = 0o10000000;

/**
 * Makes every overlay of ours that this process sees let go of the files it remembers, so that the disk gets back what was removed
 * below them: an overlay keeps the file of each path that was opened, also when its name is gone (docs/decisions/evicted-space.md).
 * Mounts stay, and who reads there goes on; a path that is opened again is looked up anew. What is open or mapped meanwhile is
 * kept, and its file is remembered again when it is closed: for that one, call again later.
 * @returns how many overlays
 */
export async function releaseDentries(): Promise<number> {
  const seen = new Set<string>();
  let released = 0;
  for (const record of readMountTable()) {
    // Binds and workspaces of one overlay share its memory.
    if (record.type !== 'overlay' || !record.source.startsWith('larder:') || seen.has(record.device)) continue;
    if (!(await release(record))) continue;
    seen.add(record.device);
    released += 1;
  }
  return released;
}

/** @returns false where that mount has gone, or another lies over it */
async function release({ id, mountPoint, options }: MountRecord): Promise<boolean> {
  let place: number;
  try {
    place = openSync(bufferOf(mountPoint), O_PATH);
  } catch (error) {
    if (isErrno(error, 'ENOENT') || isErrno(error, 'ENOTDIR')) return false;
    throw error;
  }
  try {
    if (mountIdOf(place) !== id) return false;
    const context = fspick(place);
    try {
      // Configured as it is: an overlay without an upper layer refuses to become writable, which is what not saying it means.
      if (options.split(',').includes('ro')) fsconfigSet(context, { kind: 'flag', key: 'ro' });
      await fsconfigReconfigure(context);
    } finally {
      closeSync(context);
    }
    return true;
  } finally {
    closeSync(place);
  }
}

function mountIdOf(descriptor: number): number {
  return Number(/^mnt_id:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, 'latin1'))?.[1]);
}
