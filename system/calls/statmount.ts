import { attempt, cString, declare, declareSyscall, errnoOf, type PathLike, systemError } from './libc.ts';

const statx_ = declare('int statx(int fd, const void *path, int flags, unsigned int mask, void *status)');
const statmount_ = declareSyscall('const void *', 'void *', 'size_t', 'unsigned int');

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_NO_AUTOMOUNT = 0x800;
/** What is known is enough: a filesystem of another process is not asked. */
const AT_STATX_DONT_SYNC = 0x4000;

const STATX_MNT_ID_UNIQUE = 0x4000;
const STATX_ATTR_MOUNT_ROOT = 0x2000;

/** The same on every architecture. */
const STATMOUNT = 457;
/** Superblock's and mount's basics, root, type, options, subtype, source. */
const WANTED = 0x1 | 0x2 | 0x8 | 0x20 | 0x80 | 0x100 | 0x200;
const OPTIONAL = 0x80 | 0x100;
/** Where strings begin in `struct statmount`. */
const STRINGS = 512;

/** What statmount(2) tells of one mount. Strings are bytes (latin1), nothing in them is escaped but what options are made with. */
export interface MountStatus {
  /** As in /proc/self/mountinfo. */
  readonly id: number;
  readonly parent: number;
  readonly device: { readonly major: number; readonly minor: number };
  /** Of the superblock (`SB_RDONLY` is 1). */
  readonly flags: number;
  /** `MOUNT_ATTR_…` of linux/mount.h. */
  readonly attributes: number;
  readonly root: string;
  readonly type: string;
  readonly subtype: string;
  readonly source: string;
  readonly options: string;
}

/**
 * The mount whose root a path lookup of `path` (a last symbolic link is not followed) ends in. `none` where it is no mount's root, `unknown` where the
 * kernel does not tell by statx(2) and statmount(2) (Linux 6.13 tells all), or the path cannot be looked up.
 */
export function statMount(path: PathLike): MountStatus | 'none' | 'unknown' {
  const status = Buffer.alloc(256);
  const flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
  if (attempt(statx_, AT_FDCWD, cString(path), flags, STATX_MNT_ID_UNIQUE, status).result !== 0) return 'unknown';
  if ((status.readUInt32LE(0) & STATX_MNT_ID_UNIQUE) === 0 || (status.readUInt32LE(56) & STATX_ATTR_MOUNT_ROOT) === 0)
    return 'unknown';
  if ((status.readUInt32LE(8) & STATX_ATTR_MOUNT_ROOT) === 0) return 'none';
  return statusOf(status.readBigUInt64LE(144));
}

function statusOf(id: bigint): MountStatus | 'unknown' {
  const request = Buffer.alloc(24);
  request.writeUInt32LE(request.length, 0);
  request.writeBigUInt64LE(id, 8);
  request.writeBigUInt64LE(BigInt(WANTED), 16);
  for (let size = 4096; ; size *= 4) {
    const answer = Buffer.alloc(size);
    const { result, errno } = attempt(statmount_, STATMOUNT, request, answer, size, 0);
    if (result === 0) return decode(answer);
    // Gone since, not in this namespace, not known to this kernel, not allowed.
    if (['ENOENT', 'ENOSYS', 'EPERM', 'EINVAL'].some((code) => errnoOf[code] === errno)) return 'unknown';
    if (errno !== errnoOf.EOVERFLOW) throw systemError(errno, { syscall: 'statmount' });
  }
}

function decode(answer: Buffer): MountStatus | 'unknown' {
  const mask = answer.readUInt32LE(8);
  // Where there are no options and no subtype, the kernel does not say so: one that tells the source knows of all three.
  if (((mask | OPTIONAL) & WANTED) !== WANTED) return 'unknown';
  const string = (bit: number, offset: number) => {
    if ((mask & bit) === 0) return '';
    const start = STRINGS + answer.readUInt32LE(offset);
    return answer.toString('latin1', start, answer.indexOf(0, start));
  };
  return {
    id: answer.readUInt32LE(56),
    parent: answer.readUInt32LE(60),
    device: { major: answer.readUInt32LE(16), minor: answer.readUInt32LE(20) },
    flags: answer.readUInt32LE(32),
    attributes: answer.readUInt32LE(64),
    root: string(0x8, 104),
    type: string(0x20, 36),
    subtype: string(0x100, 120),
    source: string(0x200, 124),
    options: string(0x80, 4),
  };
}
