import { closeSync, fstatSync, openSync } from 'node:fs';
import { isErrno } from '../../dataset/errors.ts';
import { fuseBackingClose, fuseBackingOpen } from '../../system/calls.ts';
import type { PassThrough } from './ring-files.ts';

/**
 * Opens that the kernel passes through to plain files (FUSE_PASSTHROUGH). What the kernel refuses for good (no right to do so, or a
 * file system that is stacked on another) is told once, and not tried again.
 */
export function createPassThrough(device: number, tell: (reason: string) => void): PassThrough {
  let refused = false;
  return {
    open(path, size) {
      if (refused) return undefined;
      let fd: number;
      try {
        fd = openSync(path, 'r');
      } catch (error) {
        // Evicted since: it is read like any other.
        if (isErrno(error, 'ENOENT')) return undefined;
        throw error;
      }
      try {
        return fstatSync(fd).size === size ? fuseBackingOpen(device, fd) : undefined;
      } catch (error) {
        refused = true;
        tell(`the kernel does not pass opens through, so large files are read through the daemon: ${error}`);
        return undefined;
      } finally {
        closeSync(fd);
      }
    },
    close(backing) {
      try {
        fuseBackingClose(device, backing);
      } catch (error) {
        // Unmounted since, or closed by an earlier daemon that was killed before it could write that down.
        if (!isErrno(error, 'ENOENT') && !isErrno(error, 'EPERM') && !isErrno(error, 'ENOTCONN')) throw error;
      }
    },
  };
}
