import { closeSync, constants, openSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { isErrno, UnavailableError } from '../../dataset/errors.ts';
import { MS, mount } from '../../system/calls.ts';
import { S_IFDIR } from './protocol.ts';

/**
 * Opens /dev/fuse and mounts a filesystem of directories at `target`, an empty directory. The kernel's first message, INIT, waits
 * on the descriptor from then on; every use of the mount waits until it is answered. The caller closes the descriptor, which
 * aborts the connection once nobody else holds it.
 */
export function mountFuse(target: string): number {
  const { O_RDWR, O_NONBLOCK } = constants;
  let fd: number;
  try {
    fd = openSync('/dev/fuse', O_RDWR | O_NONBLOCK);
  } catch (error) {
    throw new UnavailableError("cannot open /dev/fuse: load the kernel's fuse module, and run as root", {
      cause: error,
    });
  }
  try {
    const options = [`fd=${fd}`, `rootmode=${S_IFDIR.toString(8)}`, 'user_id=0', 'group_id=0', 'allow_other'];
    mount({
      source: 'larder',
      target,
      type: 'fuse.larder',
      flags: MS.noSuid | MS.noDev | MS.noExec | MS.noAtime | MS.readOnly,
      data: [...options, 'default_permissions'].join(','),
    });
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return fd;
}

/** The kernel's number of the connection that is mounted at `target`, as in /sys/fs/fuse/connections. Touches no filesystem. */
export function connectionNumber(target: string): number | undefined {
  let found: number | undefined;
  // The directory itself may be a mount whose daemon is gone, and cannot be asked.
  const point = join(realpathSync(dirname(target)), basename(target));
  for (const line of readFileSync('/proc/self/mountinfo', 'latin1').split('\n')) {
    const [, , device, , path] = line.split(' ');
    if (device && path && unescapePath(path) === point) {
      const [major, minor] = device.split(':').map(Number);
      found = major! * 2 ** 20 + minor!;
    }
  }
  return found;
}

/**
 * Has the kernel read ahead up to `bytes` of a file that is read in order, in READs side by side: FUSE can only ask for less than the
 * 128 KiB that are the default. `number` is the connection's. Says why where that cannot be: without a writable /sys.
 */
export function setReadAhead(number: number, bytes: number): string | undefined {
  // Of a device without a major number, which the connection's number therefore is the minor one of.
  const file = `/sys/class/bdi/0:${number}/read_ahead_kb`;
  try {
    writeFileSync(file, String(bytes / 1024));
    return undefined;
  } catch (error) {
    if (!isErrno(error, 'ENOENT') && !isErrno(error, 'EACCES') && !isErrno(error, 'EROFS') && !isErrno(error, 'EPERM'))
      throw error;
    return `reads of large files are not read far ahead: ${(error as Error).message}`;
  }
}

/** mountinfo writes blanks and backslashes of a path as three octal digits. */
function unescapePath(path: string): string {
  const bytes = path.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
  return Buffer.from(bytes, 'latin1').toString('utf8');
}
