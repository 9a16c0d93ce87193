import { attempt, call, declare, errnoName, errnoOf, systemError } from './calls/libc.ts';

// What the thread that reads /dev/fuse needs: it blocks in poll(2) for as long as nothing comes, and must still be woken to end.

const poll_ = declare('int poll(void *fds, unsigned long count, int timeout)');
const read_ = declare('long read(int fd, void *buffer, size_t length)');
const eventfd_ = declare('int eventfd(unsigned int initial, int flags)');

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;
const POLLIN = 1;

/** eventfd(2): a descriptor that becomes readable once 8 bytes other than zeros are written to it. The caller closes it. */
export function eventFd(): number {
  return call({ syscall: 'eventfd' }, eventfd_, 0, EFD_CLOEXEC | EFD_NONBLOCK);
}

/**
 * poll(2): blocks the calling thread until one of the descriptors is readable, has failed or was hung up, or for `timeout` ms (-1:
 * for ever). Gives those that are. Not for the main thread, unless with a timeout of 0.
 */
export function pollReadable(fds: readonly number[], timeout: number): number[] {
  const entries = Buffer.alloc(fds.length * 8);
  for (const [index, fd] of fds.entries()) {
    entries.writeInt32LE(fd, index * 8);
    entries.writeInt16LE(POLLIN, index * 8 + 4);
  }
  for (;;) {
    const { result, errno } = attempt(poll_, entries, fds.length, timeout);
    if (result >= 0) return fds.filter((_, index) => entries.readInt16LE(index * 8 + 6) !== 0);
    if (errno !== errnoOf.EINTR) throw systemError(errno, { syscall: 'poll' });
  }
}

/** read(2), one call: the number of bytes, or the error's name where a thrown error would cost more than the call (EAGAIN). */
export function tryRead(fd: number, buffer: Uint8Array): number | string {
  const { result, errno } = attempt(read_, fd, buffer, buffer.byteLength);
  return result < 0 ? errnoName(errno) : Number(result);
}
