import { ioctl, ioctlNumber } from './libc.ts';

// linux/fuse.h: the ioctls of /dev/fuse are of type 229.
const FUSE_DEV_IOC_CLONE = ioctlNumber('read', 229, 0, 4);
const FUSE_DEV_IOC_BACKING_OPEN = ioctlNumber('write', 229, 1, 16);
const FUSE_DEV_IOC_BACKING_CLOSE = ioctlNumber('write', 229, 2, 4);

/** FUSE_DEV_IOC_CLONE: makes a freshly opened /dev/fuse a second channel of the session of `session`. */
export function fuseClone(channel: number, session: number): void {
  const argument = Buffer.alloc(4);
  argument.writeUInt32LE(session, 0);
  ioctl('ioctl FUSE_DEV_IOC_CLONE', channel, FUSE_DEV_IOC_CLONE, argument);
}

/**
 * FUSE_DEV_IOC_BACKING_OPEN (Linux 6.9): registers an open file for passthrough and gives its backing id.
 * struct fuse_backing_map: fd i32, flags u32, padding u64.
 */
export function fuseBackingOpen(session: number, fd: number): number {
  const map = Buffer.alloc(16);
  map.writeInt32LE(fd, 0);
  return ioctl('ioctl FUSE_DEV_IOC_BACKING_OPEN', session, FUSE_DEV_IOC_BACKING_OPEN, map);
}

/** FUSE_DEV_IOC_BACKING_CLOSE: gives the backing id back. Files that were opened with it go on. */
export function fuseBackingClose(session: number, backingId: number): void {
  const argument = Buffer.alloc(4);
  argument.writeUInt32LE(backingId, 0);
  ioctl('ioctl FUSE_DEV_IOC_BACKING_CLOSE', session, FUSE_DEV_IOC_BACKING_CLOSE, argument);
}
