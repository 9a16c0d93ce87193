/**
 * The system calls that Node lacks. Each throws an error like those of `node:fs` (`code`, `errno`, `syscall`, `path`); what can
 * block long gives a promise and runs on a thread of libuv's pool. Linux on x86-64 and arm64.
 */
export * from './calls/anonymous-file.ts';
export * from './calls/file.ts';
export * from './calls/fuse.ts';
export { errnoName, type PathLike } from './calls/libc.ts';
export * from './calls/loop.ts';
export * from './calls/mount.ts';
export * from './calls/process.ts';
export * from './calls/statmount.ts';
export * from './calls/verity.ts';
export * from './calls/xattr.ts';
export * from './calls/xfs.ts';
