import { ioctl, ioctlAsync, ioctlNumber } from './libc.ts';

// xfs_fs.h (xfsprogs): the ioctls of a mounted XFS are of type 'X'.
const X = 'X'.charCodeAt(0);
const XFS_IOC_FSGEOMETRY_V1 = ioctlNumber('read', X, 100, 112);
const XFS_IOC_FSGROWFSDATA = ioctlNumber('write', X, 110, 16);
const XFS_IOC_GOINGDOWN = ioctlNumber('read', X, 125, 4);

export interface XfsGeometry {
  /** Bytes. */
  readonly blockSize: number;
  /** Of the data section, which ends where the device may go on. */
  readonly blocks: number;
  /** The largest share of space that inodes may take, in percent. */
  readonly inodePercent: number;
}

/** XFS_IOC_FSGEOMETRY_V1. struct: block size at 0, inode percentage at 28 (u32 each), data blocks at 32 (u64). ENOTTY elsewhere. */
export function xfsGeometry(fd: number): XfsGeometry {
  const geometry = Buffer.alloc(112);
  ioctl('ioctl XFS_IOC_FSGEOMETRY', fd, XFS_IOC_FSGEOMETRY_V1, geometry);
  return {
    blockSize: geometry.readUInt32LE(0),
    inodePercent: geometry.readUInt32LE(28),
    blocks: Number(geometry.readBigUInt64LE(32)),
  };
}

/** XFS_IOC_FSGROWFSDATA: makes the mounted filesystem larger, up to its device. struct: new blocks u64, inode percentage u32. */
export async function xfsGrow(fd: number, blocks: number, inodePercent: number): Promise<void> {
  const argument = Buffer.alloc(16);
  argument.writeBigUInt64LE(BigInt(blocks), 0);
  argument.writeUInt32LE(inodePercent, 8);
  await ioctlAsync('ioctl XFS_IOC_FSGROWFSDATA', fd, XFS_IOC_FSGROWFSDATA, argument);
}

/** XFS_IOC_GOINGDOWN without flushing the log, as at a power cut: whatever is asked of the filesystem from now on ends in EIO. */
export function xfsShutdown(fd: number): void {
  const argument = Buffer.alloc(4);
  argument.writeUInt32LE(2, 0);
  ioctl('ioctl XFS_IOC_GOINGDOWN', fd, XFS_IOC_GOINGDOWN, argument);
}

// linux/fs/xfs/libxfs/xfs_fs.h: struct xfs_bulk_ireq, 64 bytes, then one struct xfs_bulkstat of 192 bytes for each inode.
const XFS_IOC_BULKSTAT = ioctlNumber('read', X, 127, 64);

/** The shape of what `xfsBulkstat` writes: offsets in bytes within an inode's record. Numbers are the machine's, little-endian. */
export const XFS_BULKSTAT = {
  headBytes: 64,
  recordBytes: 192,
  /** u64 */
  inode: 0,
  size: 8,
  /** i64; the nanoseconds of each are a u32. */
  ctime: 48,
  born: 56,
  ctimeNanos: 88,
  bornNanos: 92,
  /** u32 */
  links: 112,
  /** u16 */
  mode: 132,
} as const;

/**
 * XFS_IOC_BULKSTAT: what the filesystem of `fd` knows of its inodes from number `from` on, in order of their numbers, whoever has them open or has
 * deleted them. As many as fit behind the head of `into`. Off the event loop. ENOTTY elsewhere.
 * @returns how many records were written, 0 at the end, and the number to go on from
 */
export async function xfsBulkstat(
  fd: number,
  from: bigint,
  into: Buffer,
): Promise<{ readonly count: number; readonly next: bigint }> {
  const { headBytes, recordBytes } = XFS_BULKSTAT;
  into.fill(0, 0, headBytes);
  into.writeBigUInt64LE(from, 0);
  into.writeUInt32LE(Math.floor((into.length - headBytes) / recordBytes), 12);
  await ioctlAsync('ioctl XFS_IOC_BULKSTAT', fd, XFS_IOC_BULKSTAT, into);
  return { next: into.readBigUInt64LE(0), count: into.readUInt32LE(16) };
}
