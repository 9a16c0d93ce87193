import { realpathSync, rmdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isErrno } from '../dataset/errors.ts';
import { UMOUNT, umount, umountAsync } from '../system/calls.ts';
import { type Holder, holdersOf } from './holders.ts';
import { mountAt, mountsUnder } from './mount-table.ts';

export interface Unmounted {
  /** False where nothing was mounted there. */
  readonly unmounted: boolean;
  /** Somebody used it: it is gone from the tree, and ends when they let go. */
  readonly detached: boolean;
  /** Who used it, where it was detached. */
  readonly holders: readonly Holder[];
}

/**
 * Unmounts whatever is mounted at `target`, also several mounts stacked there; nothing there is no error. What is in use is detached
 * lazily, and who uses it is named. An image and its loop device go with the last overlay that shows them.
 */
export async function unmount(target: string): Promise<Unmounted> {
  const holders: Holder[] = [];
  let unmounted = false;
  let detached = false;
  for (;;) {
    const point = resolved(target);
    const record = point === undefined ? undefined : mountAt(point);
    if (point === undefined || !record) return { unmounted, detached, holders };
    if (!(await tryUnmount(point))) {
      holders.push(...(await holdersOf(record)));
      detached = true;
      umount(point, UMOUNT.detach | UMOUNT.noFollow);
    }
    unmounted = true;
  }
}

/** False where it stays busy. Something that only looks, such as udev, is gone after a moment. */
async function tryUnmount(target: string): Promise<boolean> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      await umountAsync(target, UMOUNT.noFollow);
      return true;
    } catch (error) {
      // EINVAL: no mount point any more; another call was faster.
      if (isErrno(error, 'EINVAL')) return true;
      if (!isErrno(error, 'EBUSY')) throw error;
      if (attempt === 2) return false;
      await sleep(20);
    }
  }
}

/** Mounts may be dead (ENOTCONN, EIO, ESHUTDOWN): the directory's name must do then. */
function resolved(target: string): string | undefined {
  try {
    return realpathSync.native(target);
  } catch (error) {
    if (isErrno(error, 'ENOENT') || isErrno(error, 'ENOTDIR')) return undefined;
    if (['ENOTCONN', 'EIO', 'ESHUTDOWN', 'ESTALE', 'EACCES'].some((code) => isErrno(error, code))) return target;
    throw error;
  }
}

/** `unmount`, then removes the empty directory. A directory that holds something is left: it is not ours to delete. */
export async function unmountAndRemove(target: string): Promise<Unmounted> {
  const result = await unmount(target);
  try {
    rmdirSync(target);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
  return result;
}

export interface Leftover extends Unmounted {
  readonly mountPoint: string;
  readonly type: string;
}

/**
 * Unmounts what a crash left mounted in a directory of ours: everything at or below `directory` whose mount point `keep` does not claim,
 * in the order that the mount table prescribes. The directories stay.
 */
export async function cleanLeftovers(
  directory: string,
  keep: (mountPoint: string) => boolean = () => false,
): Promise<Leftover[]> {
  const cleaned: Leftover[] = [];
  const point = resolved(directory);
  if (point === undefined) return cleaned;
  const seen = new Set<string>();
  for (const record of mountsUnder(point)) {
    const mountPoint = Buffer.from(record.mountPoint, 'latin1').toString('utf8');
    if (seen.has(mountPoint) || keep(mountPoint)) continue;
    seen.add(mountPoint);
    cleaned.push({ ...(await unmount(mountPoint)), mountPoint, type: record.type });
  }
  return cleaned;
}
