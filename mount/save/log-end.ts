import { closeSync, fstatSync, openSync, readFileSync, readlinkSync } from 'node:fs';
import { isErrno } from '../../dataset/errors.ts';
import { syncfs } from '../../system/calls.ts';

/**
 * Where XFS's log ends: it goes on with each change that is not one of a file's data alone, and those change a time first. After a sync, all changes
 * are in it. Undefined where the kernel does not tell.
 * @param filesystem any file of it
 */
export function endOfLog(filesystem: number): string | undefined {
  const { dev } = fstatSync(filesystem);
  try {
    const name = deviceNames.get(dev) ?? nameOf(dev);
    deviceNames.set(dev, name);
    return readFileSync(`/sys/fs/xfs/${name}/log/log_head_lsn`, 'latin1').trim();
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** A device number stands for one name while the kernel runs; there are about as many as were ever mounted at once. */
const deviceNames = new Map<number, string>();

/** What the kernel calls a block device, by its number as of makedev(3). */
function nameOf(device: number): string {
  const major = (device >> 8) & 0xfff;
  const minor = (device & 0xff) | ((device >> 12) & 0xfff00);
  const link = readlinkSync(`/sys/dev/block/${major}:${minor}`);
  return link.slice(link.lastIndexOf('/') + 1);
}

/**
 * Where the log of a mounted workspace ends once all that was done is in it; as long as that is so, nothing was done. Undefined where the kernel
 * does not tell.
 */
export async function loggedUntil(at: string): Promise<string | undefined> {
  return (await restOf(at))?.logged;
}

/** A filesystem in which nothing is done as long as its log ends where it does. */
export interface Rest {
  /** The device's number: what is mounted there later may be another one. */
  readonly device: number;
  readonly logged: string;
}

/** As `loggedUntil`: a few calls, of which the one that may take long is done by a thread of the pool. */
export async function restOf(at: string): Promise<Rest | undefined> {
  const filesystem = openSync(at, 'r');
  try {
    await syncfs(filesystem);
    const logged = endOfLog(filesystem);
    return logged === undefined ? undefined : { device: fstatSync(filesystem).dev, logged };
  } finally {
    closeSync(filesystem);
  }
}
