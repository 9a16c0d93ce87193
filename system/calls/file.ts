import { setTimeout as sleep } from 'node:timers/promises';
import {
  attempt,
  call,
  callAsync,
  cString,
  declare,
  declareSyscall,
  errnoOf,
  ioctl,
  ioctlAsync,
  ioctlNumber,
  numberOf,
  type PathLike,
  systemError,
} from './libc.ts';

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_SYMLINK_FOLLOW = 0x400;
const AT_EMPTY_PATH = 0x1000;

// --- locks

const flock_ = declare('int flock(int fd, int operation)');
const LOCK_NB = 4;
const operations = { shared: 1, exclusive: 2, unlock: 8 } as const;

/**
 * flock(2): locks the open file description, so that it ends with the last descriptor, also when the process is killed.
 * Without `wait`, gives false where another holds it; with `wait`, blocks the whole process (`flockAsync` does not).
 */
export function flock(fd: number, operation: keyof typeof operations, options: { wait?: boolean } = {}): boolean {
  for (;;) {
    const { result, errno } = attempt(flock_, fd, operations[operation] | (options.wait ? 0 : LOCK_NB));
    if (result === 0) return true;
    if (errno === errnoOf.EAGAIN) return false;
    if (errno !== errnoOf.EINTR) throw systemError(errno, { syscall: 'flock' });
  }
}

/**
 * Waits for the lock by asking again, at first every millisecond and later every 50: a call that blocks would hold one of the few
 * threads that also do the process's file I/O.
 */
export async function flockAsync(
  fd: number,
  operation: 'shared' | 'exclusive',
  options: { signal?: AbortSignal } = {},
): Promise<void> {
  for (let pause = 1; !flock(fd, operation); pause = Math.min(pause * 2, 50))
    await sleep(pause, undefined, { signal: options.signal });
}

// --- cloning and copying

const FICLONE = ioctlNumber('write', 0x94, 9, 4);
const FICLONERANGE = ioctlNumber('write', 0x94, 13, 32);

/** FICLONE: `to` shares all of `from`'s blocks. EOPNOTSUPP, EXDEV or EINVAL where the filesystem cannot. */
export function cloneFile(from: number, to: number): void {
  ioctl('ioctl FICLONE', to, FICLONE, from);
}

/** The same off the event loop: a file of many extents takes a while. */
export async function cloneFileAsync(from: number, to: number): Promise<void> {
  await ioctlAsync('ioctl FICLONE', to, FICLONE, from);
}

/** FICLONERANGE: offsets and length in bytes, multiples of the block size (length 0: to the end). */
export function cloneRange(from: number, fromOffset: number, length: number, to: number, toOffset: number): void {
  const range = Buffer.alloc(32);
  range.writeBigInt64LE(BigInt(from), 0);
  range.writeBigUInt64LE(BigInt(fromOffset), 8);
  range.writeBigUInt64LE(BigInt(length), 16);
  range.writeBigUInt64LE(BigInt(toOffset), 24);
  ioctl('ioctl FICLONERANGE', to, FICLONERANGE, range);
}

const copyFileRange_ = declareSyscall('int', 'void *', 'int', 'void *', 'size_t', 'unsigned int');

function copyArguments(from: number, fromOffset: number, to: number, toOffset: number, length: number) {
  const offsets = Buffer.alloc(16);
  offsets.writeBigInt64LE(BigInt(fromOffset), 0);
  offsets.writeBigInt64LE(BigInt(toOffset), 8);
  return [numberOf('copyFileRange'), from, offsets.subarray(0, 8), to, offsets.subarray(8), length, 0] as const;
}

/** copy_file_range(2): bytes copied, which may be fewer than asked, and 0 at the end. The descriptors' positions stay. */
export function copyFileRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): number {
  return call({ syscall: 'copy_file_range' }, copyFileRange_, ...copyArguments(from, fromOffset, to, toOffset, length));
}

/** The same off the event loop. */
export function copyFileRangeAsync(
  from: number,
  fromOffset: number,
  to: number,
  toOffset: number,
  length: number,
): Promise<number> {
  const args = copyArguments(from, fromOffset, to, toOffset, length);
  return callAsync({ syscall: 'copy_file_range' }, copyFileRange_, ...args);
}

// --- holes and space

const lseek_ = declare('int64_t lseek(int fd, int64_t offset, int whence)');

function seek(fd: number, offset: number, whence: number): number | undefined {
  const { result, errno } = attempt(lseek_, fd, offset, whence);
  if (result >= 0) return Number(result);
  if (errno === errnoOf.ENXIO) return undefined;
  throw systemError(errno, { syscall: 'lseek' });
}

/** Where the next data starts at or after `offset`; undefined where there is none. Moves the descriptor's position. */
export function seekData(fd: number, offset: number): number | undefined {
  return seek(fd, offset, 3);
}

/** Where the next hole starts at or after `offset` (the end of the file counts as one); undefined past the end. */
export function seekHole(fd: number, offset: number): number | undefined {
  return seek(fd, offset, 4);
}

const fallocate_ = declare('int fallocate(int fd, int mode, int64_t offset, int64_t length)');

/** fallocate(2): reserves space. `keepSize` leaves the file's length. */
export function fallocate(fd: number, offset: number, length: number, options: { keepSize?: boolean } = {}): void {
  call({ syscall: 'fallocate' }, fallocate_, fd, options.keepSize ? 1 : 0, offset, length);
}

/** fallocate(2): gives the space of a range back; it reads as zeros. */
export function punchHole(fd: number, offset: number, length: number): void {
  call({ syscall: 'fallocate' }, fallocate_, fd, 3, offset, length);
}

const fadvise_ = declare('int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)');
const advices = { normal: 0, random: 1, sequential: 2, willNeed: 3, dontNeed: 4, noReuse: 5 } as const;

/** posix_fadvise(2): length 0 means to the end. `dontNeed` drops clean pages from the page cache. */
export function fadvise(fd: number, offset: number, length: number, advice: keyof typeof advices): void {
  // It returns the error number itself and leaves errno alone.
  const { result } = attempt(fadvise_, fd, offset, length, advices[advice]);
  if (result !== 0) throw systemError(result, { syscall: 'posix_fadvise' });
}

// --- durability

const syncfs_ = declare('int syncfs(int fd)');

/** syncfs(2): the whole filesystem of this descriptor is on its device. */
export async function syncfs(fd: number): Promise<void> {
  await callAsync({ syscall: 'syncfs' }, syncfs_, fd);
}

const FIFREEZE = ioctlNumber('both', 'X'.charCodeAt(0), 119, 4);
const FITHAW = ioctlNumber('both', 'X'.charCodeAt(0), 120, 4);

/** FIFREEZE: writers of the filesystem wait from now on, and its device holds a consistent state. EBUSY where it is frozen. */
export async function freeze(fd: number): Promise<void> {
  await ioctlAsync('ioctl FIFREEZE', fd, FIFREEZE);
}

/** FITHAW. EINVAL where it is not frozen. */
export function thaw(fd: number): void {
  ioctl('ioctl FITHAW', fd, FITHAW);
}

// --- names

const mknod_ = declareSyscall('int', 'const void *', 'unsigned int', 'unsigned int');
const renameat2_ = declareSyscall('int', 'const void *', 'int', 'const void *', 'unsigned int');
const linkat_ = declare('int linkat(int fromDir, const void *from, int toDir, const void *to, int flags)');

/** mknod(2): `mode` with its type (S_IFCHR, S_IFIFO…), `device` of `makeDevice`. An overlay's whiteout is S_IFCHR and 0. */
export function mknod(path: PathLike, mode: number, device = 0): void {
  call({ syscall: 'mknod', path }, mknod_, numberOf('mknodat'), AT_FDCWD, cString(path), mode, device);
}

/** A device number as `stat` gives it in `rdev`. */
export function makeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

/** renameat2(2): `noreplace` fails with EEXIST where the new name is taken, `exchange` swaps the two. */
export function renameat2(from: PathLike, to: PathLike, how: 'noreplace' | 'exchange'): void {
  const flags = { noreplace: 1, exchange: 2 }[how];
  const number = numberOf('renameat2');
  call(
    { syscall: 'renameat2', path: from, dest: to },
    renameat2_,
    number,
    AT_FDCWD,
    cString(from),
    AT_FDCWD,
    cString(to),
    flags,
  );
}

/** Gives an open file a name, for one opened with O_TMPFILE also its first. EEXIST where the name is taken. */
export function linkDescriptor(fd: number, path: PathLike): void {
  if (linkFromProc(fd, cString(path))) return;
  throw systemError(errnoOf.EEXIST!, { syscall: 'linkat', path: `/proc/self/fd/${fd}`, dest: path });
}

/** The same, for many files. @param path ends with a zero byte @returns false where the name is taken */
export type NameDescriptor = (fd: number, path: Uint8Array) => boolean;

const NO_NAME = Buffer.alloc(1);

/** By the descriptor alone. Before Linux 6.10 that takes CAP_DAC_READ_SEARCH: it is ENOENT without. */
export const linkByDescriptor: NameDescriptor = (fd, path) =>
  linked(fd, path, attempt(linkat_, fd, NO_NAME, AT_FDCWD, path, AT_EMPTY_PATH));

/** By way of /proc, which takes no privilege, and longer. */
export const linkFromProc: NameDescriptor = (fd, path) =>
  linked(fd, path, attempt(linkat_, AT_FDCWD, cString(`/proc/self/fd/${fd}`), AT_FDCWD, path, AT_SYMLINK_FOLLOW));

function linked(fd: number, path: Uint8Array, { result, errno }: ReturnType<typeof attempt>): boolean {
  if (result === 0) return true;
  if (errno === errnoOf.EEXIST) return false;
  const dest = path.subarray(0, path.indexOf(0));
  throw systemError(errno, { syscall: 'linkat', path: `/proc/self/fd/${fd}`, dest });
}

// --- times

const utimensat_ = declare('int utimensat(int dir, const void *path, const void *times, int flags)');
const futimens_ = declare('int futimens(int fd, const void *times)');

/** A moment, or `now`, or `omit`: leave it as it is. Seconds may be negative; nanoseconds are 0 to 999,999,999. */
export type FileTime = { readonly seconds: number; readonly nanos: number } | 'now' | 'omit';

const UTIME_NOW = 0x3fffffff;
const UTIME_OMIT = 0x3ffffffe;

function times(atime: FileTime, mtime: FileTime): Buffer {
  const buffer = Buffer.alloc(32);
  for (const [index, time] of [atime, mtime].entries()) {
    const [seconds, nanos] =
      time === 'now' ? [0, UTIME_NOW] : time === 'omit' ? [0, UTIME_OMIT] : [time.seconds, time.nanos];
    buffer.writeBigInt64LE(BigInt(seconds), index * 16);
    buffer.writeBigInt64LE(BigInt(nanos), index * 16 + 8);
  }
  return buffer;
}

/** utimensat(2) to the nanosecond; of a symbolic link itself unless `follow`. */
export function utimensat(path: PathLike, atime: FileTime, mtime: FileTime, options: { follow?: boolean } = {}): void {
  const flags = options.follow ? 0 : AT_SYMLINK_NOFOLLOW;
  call({ syscall: 'utimensat', path }, utimensat_, AT_FDCWD, cString(path), times(atime, mtime), flags);
}

/** futimens(3). */
export function futimens(fd: number, atime: FileTime, mtime: FileTime): void {
  call({ syscall: 'futimens' }, futimens_, fd, times(atime, mtime));
}

// --- raw input and output

const read_ = declare('long read(int fd, void *buffer, size_t length)');
const write_ = declare('long write(int fd, const void *buffer, size_t length)');
const fcntl_ = declare('int fcntl(int fd, int command, int argument)');

/** read(2), one call, without libuv's threads; for descriptors that are ready, or not blocking. */
export function readRaw(fd: number, buffer: Uint8Array): number {
  return call({ syscall: 'read' }, read_, fd, buffer, buffer.byteLength);
}

/** write(2), one call. */
export function writeRaw(fd: number, buffer: Uint8Array): number {
  return call({ syscall: 'write' }, write_, fd, buffer, buffer.byteLength);
}

/** A second descriptor of the same open file, closed on exec. */
export function duplicate(fd: number): number {
  return call({ syscall: 'fcntl' }, fcntl_, fd, 1030, 0);
}

/** O_NONBLOCK of the open file description. */
export function setNonBlocking(fd: number, on: boolean): void {
  const flags = call({ syscall: 'fcntl' }, fcntl_, fd, 3, 0);
  call({ syscall: 'fcntl' }, fcntl_, fd, 4, on ? flags | 0o4000 : flags & ~0o4000);
}

/** FD_CLOEXEC: whether programs that this process starts inherit the descriptor. */
export function setCloseOnExec(fd: number, on: boolean): void {
  call({ syscall: 'fcntl' }, fcntl_, fd, 2, on ? 1 : 0);
}

const poll_ = declare('int poll(void *fds, unsigned long count, int timeout)');

const POLLIN = 1;

/** poll(2) off the event loop: whether the descriptor becomes readable (or hangs up) within `timeout` ms. Takes a pool thread. */
export async function waitReadable(fd: number, timeout: number): Promise<boolean> {
  const entry = Buffer.alloc(8);
  entry.writeInt32LE(fd, 0);
  entry.writeInt16LE(POLLIN, 4);
  return (await callAsync({ syscall: 'poll' }, poll_, entry, 1, timeout)) > 0;
}
