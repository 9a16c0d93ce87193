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
