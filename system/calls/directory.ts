import koffi from 'koffi';
import { declare, errnoOf, type PathLike, systemError } from './libc.ts';

/**
 * Listing and examining many files of one directory at a fraction of the cost of `node:fs`: names stay bytes, a file is reached
 * from its directory's descriptor (a path of any depth is), and results land in one buffer. Pointers are numbers here: the caller
 * keeps the buffers that they point into alive.
 */

const openat_ = koffi.load(null).func('openat', 'int', ['int', 'uint64_t', 'int', 'int']) as unknown as (
  ...args: number[]
) => number;
const statx_ = koffi
  .load(null)
  .func('statx', 'int', ['int', 'uint64_t', 'int', 'unsigned int', 'uint64_t']) as unknown as (
  ...args: number[]
) => number;
const getdents_ = declare('long getdents64(int fd, void *buffer, size_t size)');
const readlinkat_ = koffi.load(null).func('readlinkat', 'long', ['int', 'uint64_t', 'void *', 'size_t']) as unknown as (
  ...args: (number | Uint8Array)[]
) => number;

const AT_EMPTY_PATH = 0x1000;
const AT_NO_AUTOMOUNT = 0x800;
const AT_SYMLINK_NOFOLLOW = 0x100;
const STATX_BASIC_STATS = 0x7ff;

/** `openat` relative to the working directory. */
export const AT_FDCWD = -100;

/** The address of a buffer's first byte. It must not be an empty one. */
export function addressOf(buffer: Uint8Array): number {
  return Number(koffi.address(buffer));
}

/** openat(2) of the NUL-terminated name at `name`. Gives the descriptor, or the negative error number. */
export function openAt(directory: number, name: number, flags: number): number {
  for (;;) {
    const fd = openat_(directory, name, flags, 0);
    if (fd >= 0) return fd;
    const errno = koffi.errno();
    if (errno !== errnoOf.EINTR) return -errno;
  }
}

/**
 * getdents64(2): the next entries of an open directory as the kernel gives them (inode u64, offset i64, length of the record u16, type u8,
 * name with a zero byte), in the directory's own order. Gives the bytes written; 0 at the end.
 */
export function getdents(fd: number, buffer: Uint8Array, path?: PathLike): number {
  const result = getdents_(fd, buffer, buffer.length);
  if (result < 0) throw systemError(koffi.errno(), { syscall: 'getdents64', path });
  return result;
}

/** What `statAt` and `statFd` fill: one record, and views of its fields. */
export interface StatRecord {
  readonly address: number;
  readonly words: Uint32Array;
  /** Keeps the memory. */
  readonly bytes: Buffer;
}

export function createStatRecord(): StatRecord {
  const bytes = Buffer.alloc(256);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, 64);
  // struct statx ends in reserved fields, always zero: its last byte serves as the empty name, which means the descriptor itself.
  return { address: addressOf(bytes), words, bytes };
}

/**
 * Indices of `words`: struct statx in 32-bit words, little-endian halves of the 64-bit fields. `mode` is the lower half of its word.
 */
export const STAT = {
  nlink: 4,
  uid: 5,
  gid: 6,
  mode: 7,
  inode: 8,
  size: 10,
  blocks: 12,
  ctime: 24,
  ctimeNanos: 26,
  mtime: 28,
  mtimeNanos: 30,
  deviceMajor: 34,
  deviceMinor: 35,
} as const;

/** statx(2) of the NUL-terminated name at `name`, not following a link. Gives 0, or the error number. */
export function statAt(directory: number, name: number, record: StatRecord): number {
  const result = statx_(directory, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, record.address);
  return result === 0 ? 0 : koffi.errno();
}

/** statx(2) of an open file. */
export function statFd(fd: number, record: StatRecord): void {
  const result = statx_(fd, record.address + 255, AT_EMPTY_PATH, STATX_BASIC_STATS, record.address);
  if (result !== 0) throw systemError(koffi.errno(), { syscall: 'statx' });
}

/** readlinkat(2): the target's bytes into `buffer`. Gives their number, or the negative error number. */
export function readlinkAt(directory: number, name: number, buffer: Uint8Array): number {
  const result = readlinkat_(directory, name, buffer, buffer.length);
  return result >= 0 ? result : -koffi.errno();
}
