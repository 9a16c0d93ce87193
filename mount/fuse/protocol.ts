/**
 * The kernel's FUSE protocol, version 7, as far as a read-only filesystem needs it. Numbers and layouts are those of
 * the kernel's interface (include/uapi/linux/fuse.h), in the machine's byte order, which is little-endian on both x86-64 and arm64.
 * Each layout below names byte offsets; request.ts and reply.ts read and write by them.
 */

/** The version we speak. The kernel goes by the lower of both minors; 7.40 (Linux 6.9) brought FUSE_HAS_RESEND. */
export const PROTOCOL = { major: 7, minor: 40, oldestMinor: 31 } as const;

/** The root directory's node id. */
export const ROOT_ID = 1n;

/** The longest component of a name. */
export const NAME_MAX = 255;

export const OP = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  open: 14,
  read: 15,
  statfs: 17,
  release: 18,
  getxattr: 22,
  listxattr: 23,
  flush: 25,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  access: 34,
  interrupt: 36,
  destroy: 38,
  batchForget: 42,
  readdirplus: 44,
  statx: 52,
} as const;

/** Feature bits of INIT. From bit 32 on they travel in `flags2`. */
export const FEATURE = {
  asyncRead: 1n << 0n,
  parallelDirectoryOperations: 1n << 18n,
  abortError: 1n << 21n,
  maxPages: 1n << 22n,
  noOpendirSupport: 1n << 24n,
  extended: 1n << 30n,
  expireOnly: 1n << 35n,
  passthrough: 1n << 37n,
  resend: 1n << 39n,
} as const;

/** Bits of `openFlags`. A file opened with `passthrough` is read from the file that `backingId` names, and may have no other bit set. */
export const OPEN_FLAG = { keepCache: 1 << 1, passthrough: 1 << 7 } as const;

/** Codes of messages that we send unasked. They stand where a reply has its error, and their `unique` is 0. */
export const NOTIFY = { invalidateInode: 2, invalidateEntry: 3, resend: 7 } as const;

/** Set in `unique` of a request that the kernel sends again after NOTIFY.resend. The answer repeats it. */
export const UNIQUE_RESENT = 1n << 63n;

/** File types of a directory entry, as in `d_type`. */
export const DIRENT_TYPE = { directory: 4, file: 8 } as const;

export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;

/** struct fuse_in_header. The body follows. `totalExtensions` counts 8-byte units at the message's end. */
export const IN_HEADER = {
  length: 0,
  opcode: 4,
  unique: 8,
  nodeid: 16,
  uid: 24,
  gid: 28,
  pid: 32,
  totalExtensions: 36,
  size: 40,
} as const;

/** struct fuse_out_header. */
export const OUT_HEADER = { length: 0, error: 4, unique: 8, size: 16 } as const;

/** struct fuse_init_in; `flags2` is there when FEATURE.extended is set in `flags`. */
export const INIT_IN = { major: 0, minor: 4, maxReadahead: 8, flags: 12, flags2: 16, shortSize: 16, size: 64 } as const;

/** struct fuse_init_out. */
export const INIT_OUT = {
  major: 0,
  minor: 4,
  maxReadahead: 8,
  flags: 12,
  maxBackground: 16,
  congestionThreshold: 18,
  maxWrite: 20,
  timeGranularity: 24,
  maxPages: 28,
  mapAlignment: 30,
  flags2: 32,
  maxStackDepth: 36,
  size: 64,
} as const;

/** struct fuse_attr. */
export const ATTR = {
  ino: 0,
  size_: 8,
  blocks: 16,
  atime: 24,
  mtime: 32,
  ctime: 40,
  atimeNanos: 48,
  mtimeNanos: 52,
  ctimeNanos: 56,
  mode: 60,
  nlink: 64,
  uid: 68,
  gid: 72,
  rdev: 76,
  blockSize: 80,
  flags: 84,
  size: 88,
} as const;

/** struct fuse_entry_out: the answer to LOOKUP. */
export const ENTRY_OUT = {
  nodeid: 0,
  generation: 8,
  entryValid: 16,
  attrValid: 24,
  entryValidNanos: 32,
  attrValidNanos: 36,
  attr: 40,
  size: 128,
} as const;

/** struct fuse_attr_out: the answer to GETATTR. */
export const ATTR_OUT = { attrValid: 0, attrValidNanos: 8, attr: 16, size: 104 } as const;

/** struct fuse_open_in and fuse_open_out (also for directories). */
export const OPEN_IN = { flags: 0, size: 8 } as const;
export const OPEN_OUT = { handle: 0, openFlags: 8, backingId: 12, size: 16 } as const;

/** struct fuse_read_in, of READ, READDIR and READDIRPLUS. */
export const READ_IN = { handle: 0, offset: 8, count: 16, readFlags: 20, lockOwner: 24, flags: 32, size: 40 } as const;

/** struct fuse_release_in, of RELEASE and RELEASEDIR. */
export const RELEASE_IN = { handle: 0, flags: 8, releaseFlags: 12, lockOwner: 16, size: 24 } as const;

/** struct fuse_forget_in, and what BATCH_FORGET carries: a count, then that many pairs. */
export const FORGET_IN = { lookups: 0, size: 8 } as const;
export const BATCH_FORGET_IN = { count: 0, size: 8 } as const;
export const FORGET_ONE = { nodeid: 0, lookups: 8, size: 16 } as const;

/** struct fuse_getattr_in, fuse_access_in, fuse_interrupt_in, fuse_getxattr_in (the name follows). */
export const GETATTR_IN = { flags: 0, handle: 8, size: 16 } as const;
export const ACCESS_IN = { mask: 0, size: 8 } as const;
export const INTERRUPT_IN = { unique: 0, size: 8 } as const;
export const GETXATTR_IN = { count: 0, size: 8 } as const;

/** struct fuse_statfs_out. */
export const STATFS_OUT = {
  blocks: 0,
  bfree: 8,
  bavail: 16,
  files: 24,
  ffree: 32,
  blockSize: 40,
  nameLength: 44,
  fragmentSize: 48,
  size: 80,
} as const;

/** struct fuse_dirent; the name follows, and zeros to a multiple of 8. */
export const DIRENT = { ino: 0, offset: 8, nameLength: 16, type: 20, size: 24 } as const;
