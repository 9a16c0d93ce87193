import { closeSync, constants, existsSync, openSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isErrno, UnavailableError } from '../dataset/errors.ts';
import { LOOP, loopConfigure, loopGetFree, loopStatus, makeDevice, mknod } from '../system/calls.ts';

export interface LoopOptions {
  readonly file: string;
  readonly readOnly: boolean;
  /** Logical sector size in bytes. Direct I/O needs at least that of the disk below; 4096 fits all. */
  readonly blockSize?: number;
  /** Ask for direct I/O: no second copy in the page cache. Where the file's filesystem cannot, the device goes through the cache. */
  readonly directIo?: boolean;
}

/** A file as a block device. Disposing closes this handle; the device itself goes when its last user does. */
export interface LoopDevice extends Disposable {
  /** `/dev/loop<number>` */
  readonly path: string;
  readonly number: number;
  readonly directIo: boolean;
}

const ATTEMPTS = 200;

/**
 * Attaches `file` to a free loop device, which the kernel clears by itself when nobody has it open or mounted (autoclear): a crash at
 * any point leaks nothing. Nothing reserves a free device, so another process may be faster; then the next one is taken.
 */
export async function attachLoop(options: LoopOptions): Promise<LoopDevice> {
  const mode = options.readOnly ? constants.O_RDONLY : constants.O_RDWR;
  const backing = openSync(options.file, mode | constants.O_NOFOLLOW);
  try {
    const control = openControl();
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
        const device = tryAttach(loopGetFree(control), backing, mode, options);
        if (device) return device;
        await sleep(Math.random() * Math.min(attempt, 20));
      }
    } finally {
      closeSync(control);
    }
  } finally {
    closeSync(backing);
  }
  throw new UnavailableError(
    `no loop device could be had for ${options.file}: others took each of ${ATTEMPTS} free ones first; try again`,
    { facts: { file: options.file } },
  );
}

function openControl(): number {
  try {
    return openSync('/dev/loop-control', constants.O_RDWR);
  } catch (error) {
    if (!isErrno(error, 'ENOENT') && !isErrno(error, 'ENXIO') && !isErrno(error, 'EACCES')) throw error;
    throw new UnavailableError(
      "there is no usable /dev/loop-control: load the kernel's loop module (modprobe loop), and in a container mount the host's /dev",
      { cause: error },
    );
  }
}

function tryAttach(number: number, backing: number, mode: number, options: LoopOptions): LoopDevice | undefined {
  const path = nodeOf(number);
  let fd: number;
  try {
    fd = openSync(path, mode);
  } catch (error) {
    // The device that was free a moment ago is being torn down by its last user.
    if (isErrno(error, 'ENXIO') || isErrno(error, 'EBUSY')) return undefined;
    throw error;
  }
  try {
    const flags = LOOP.autoclear | (options.readOnly ? LOOP.readOnly : 0) | (options.directIo ? LOOP.directIo : 0);
    loopConfigure(fd, { fd: backing, flags, blockSize: options.blockSize, name: options.file.slice(-63) });
    const directIo = (loopStatus(fd).flags & LOOP.directIo) !== 0;
    return { path, number, directIo, [Symbol.dispose]: () => closeSync(fd) };
  } catch (error) {
    closeSync(fd);
    if (isErrno(error, 'EBUSY') || isErrno(error, 'ENXIO')) return undefined;
    throw error;
  }
}

/** The device's node; in a container whose /dev is its own, the kernel makes none there, so we do. */
function nodeOf(number: number): string {
  const path = `/dev/loop${number}`;
  if (existsSync(path)) return path;
  const [major, minor] = readFileSync(`/sys/block/loop${number}/dev`, 'latin1').trim().split(':').map(Number);
  try {
    mknod(path, constants.S_IFBLK | 0o600, makeDevice(major!, minor!));
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error;
  }
  return path;
}

/** The loop devices that have this file behind them now, as `/dev/loop<number>`. */
export function loopDevicesOf(file: string): string[] {
  const wanted = realpathSync(file);
  const devices: string[] = [];
  for (const name of readdirSync('/sys/block')) {
    if (name.startsWith('loop') && backingFile(name) === wanted) devices.push(`/dev/${name}`);
  }
  return devices;
}

/** The file behind a loop device (`/dev/loop7`), or undefined where it has none. */
export function backingFile(device: string): string | undefined {
  return attribute(device, 'backing_file');
}

/** Whether a loop device goes past the page cache. */
export function isDirectIo(device: string): boolean {
  return attribute(device, 'dio') === '1';
}

function attribute(device: string, name: string): string | undefined {
  try {
    const file = `/sys/block/${device.slice(device.lastIndexOf('/') + 1)}/loop/${name}`;
    return readFileSync(file, 'utf8').replace(/\n$/, '');
  } catch (error) {
    if (isErrno(error, 'ENOENT') || isErrno(error, 'ENXIO') || isErrno(error, 'ENODEV')) return undefined;
    throw error;
  }
}
