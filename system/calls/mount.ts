import { readSync } from 'node:fs';
import { call, callAsync, cString, declare, declareSyscall, type PathLike } from './libc.ts';

const mount_ = declare(
  'int mount(const void *source, const void *target, const void *type, unsigned long flags, const void *data)',
);
const umount2_ = declare('int umount2(const void *target, int flags)');

/** Flags of mount(2), from linux/mount.h. */
export const MS = {
  readOnly: 1,
  noSuid: 2,
  noDev: 4,
  noExec: 8,
  remount: 32,
  noAtime: 1024,
  bind: 4096,
  move: 8192,
  recursive: 16384,
  silent: 32768,
  private: 1 << 18,
  slave: 1 << 19,
  shared: 1 << 20,
} as const;

/** Flags of umount2(2). */
export const UMOUNT = { force: 1, detach: 2, expire: 4, noFollow: 8 } as const;

export interface MountArguments {
  readonly source: PathLike;
  readonly target: PathLike;
  readonly type?: string;
  readonly flags?: number;
  /** The option string, as bytes where it holds paths. At most one page. */
  readonly data?: PathLike;
}

function mountArguments({ source, target, type = 'none', flags = 0, data = '' }: MountArguments) {
  return [cString(source), cString(target), cString(type), flags, cString(data)] as const;
}

/** mount(2). */
export function mount(options: MountArguments): void {
  call({ syscall: 'mount', path: options.source, dest: options.target }, mount_, ...mountArguments(options));
}

/** mount(2) off the event loop: reading a superblock or replaying a log can take seconds. */
export async function mountAsync(options: MountArguments): Promise<void> {
  const facts = { syscall: 'mount', path: options.source, dest: options.target };
  await callAsync(facts, mount_, ...mountArguments(options));
}

/** umount2(2), with flags of `UMOUNT`. */
export function umount(target: PathLike, flags = 0): void {
  call({ syscall: 'umount2', path: target }, umount2_, cString(target), flags);
}

/** umount2(2) off the event loop: the last unmount of a filesystem writes what is dirty. */
export async function umountAsync(target: PathLike, flags = 0): Promise<void> {
  await callAsync({ syscall: 'umount2', path: target }, umount2_, cString(target), flags);
}

// The mount API of Linux 5.2 (linux/mount.h). Its numbers are the same on every architecture.
const OPEN_TREE = 428;
const MOVE_MOUNT = 429;
const FSOPEN = 430;
const FSCONFIG = 431;
const FSMOUNT = 432;
const FSPICK = 433;
const MOUNT_SETATTR = 442;

const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
const AT_RECURSIVE = 0x8000;
const AT_SYMLINK_NOFOLLOW = 0x100;
const O_CLOEXEC = 0o2000000;

const fsopen_ = declareSyscall('const void *', 'unsigned int');
const fsconfig_ = declareSyscall('int', 'unsigned int', 'const void *', 'const void *', 'int');
const fspick_ = declareSyscall('int', 'const void *', 'unsigned int');
const fsmount_ = declareSyscall('int', 'unsigned int', 'unsigned int');
const moveMount_ = declareSyscall('int', 'const void *', 'int', 'const void *', 'unsigned int');
const openTree_ = declareSyscall('int', 'const void *', 'unsigned int');
const mountSetattr_ = declareSyscall('int', 'const void *', 'unsigned int', 'void *', 'size_t');

/** Attributes of fsmount(2) and mount_setattr(2). */
export const MOUNT_ATTR = {
  readOnly: 1,
  noSuid: 2,
  noDev: 4,
  noExec: 8,
  noAtime: 0x10,
  noSymfollow: 0x200000,
} as const;

/** fsopen(2): a context in which a filesystem of this type is configured. The caller closes it. */
export function fsopen(type: string): number {
  return call({ syscall: 'fsopen', path: type }, fsopen_, FSOPEN, cString(type), 1);
}

/** One step of configuring: `flag` sets a key alone, `path` and `fd` give a file. */
export type FsSetting =
  | { readonly kind: 'flag'; readonly key: string }
  | { readonly kind: 'string'; readonly key: string; readonly value: PathLike }
  | { readonly kind: 'fd'; readonly key: string; readonly fd: number };

/** fsconfig(2): sets one parameter. A refusal carries what the filesystem itself said. */
export function fsconfigSet(context: number, setting: FsSetting): void {
  const value = setting.kind === 'string' ? cString(setting.value) : null;
  const command = { flag: 0, string: 1, fd: 5 }[setting.kind];
  const fd = setting.kind === 'fd' ? setting.fd : 0;
  try {
    call(
      { syscall: 'fsconfig', path: setting.key },
      fsconfig_,
      FSCONFIG,
      context,
      command,
      cString(setting.key),
      value,
      fd,
    );
  } catch (error) {
    throw withMessages(error, context);
  }
}

/** fsconfig(2), FSCONFIG_CMD_CREATE: makes the superblock, off the event loop. */
export async function fsconfigCreate(context: number): Promise<void> {
  try {
    await callAsync({ syscall: 'fsconfig', path: 'create' }, fsconfig_, FSCONFIG, context, 6, null, null, 0);
  } catch (error) {
    throw withMessages(error, context);
  }
}

/** fspick(2): a context in which the filesystem mounted at `at`, a mount point, is configured anew. The caller closes it. */
export function fspick(at: number | PathLike): number {
  const FSPICK_CLOEXEC = 1;
  const FSPICK_EMPTY_PATH = 8;
  const byFd = typeof at === 'number';
  const flags = FSPICK_CLOEXEC | (byFd ? FSPICK_EMPTY_PATH : 0);
  const [directory, path] = byFd ? [at, ''] : [AT_FDCWD, at];
  return call({ syscall: 'fspick', path: byFd ? undefined : at }, fspick_, FSPICK, directory, cString(path), flags);
}

/** fsconfig(2), FSCONFIG_CMD_RECONFIGURE: makes the settings hold for what `fspick` gave, off the event loop. */
export async function fsconfigReconfigure(context: number): Promise<void> {
  try {
    await callAsync({ syscall: 'fsconfig', path: 'reconfigure' }, fsconfig_, FSCONFIG, context, 7, null, null, 0);
  } catch (error) {
    throw withMessages(error, context);
  }
}

/** fsmount(2): a detached mount of the configured superblock, with attributes of `MOUNT_ATTR`. The caller closes it. */
export function fsmount(context: number, attributes = 0): number {
  try {
    return call({ syscall: 'fsmount' }, fsmount_, FSMOUNT, context, 1, attributes);
  } catch (error) {
    throw withMessages(error, context);
  }
}

/** move_mount(2): attaches a detached mount at `target`, or moves the mount at `from` there. Symbolic links are followed. */
export function moveMount(from: number | PathLike, target: PathLike): void {
  const byFd = typeof from === 'number';
  const MOVE_MOUNT_F_EMPTY_PATH = 4;
  call(
    { syscall: 'move_mount', path: byFd ? undefined : from, dest: target },
    moveMount_,
    MOVE_MOUNT,
    byFd ? from : AT_FDCWD,
    cString(byFd ? '' : from),
    AT_FDCWD,
    cString(target),
    byFd ? MOVE_MOUNT_F_EMPTY_PATH : 0,
  );
}

/** open_tree(2), cloning: a detached bind mount of `path`, to be attached with `moveMount`. The caller closes it. */
export function cloneTree(path: PathLike, options: { recursive?: boolean } = {}): number {
  const OPEN_TREE_CLONE = 1;
  const flags = OPEN_TREE_CLONE | O_CLOEXEC | (options.recursive ? AT_RECURSIVE : 0);
  return call({ syscall: 'open_tree', path }, openTree_, OPEN_TREE, AT_FDCWD, cString(path), flags);
}

export interface MountAttributes {
  /** Bits of `MOUNT_ATTR`. */
  readonly set?: number;
  readonly clear?: number;
  /** One of `MS.private`, `MS.slave`, `MS.shared`. */
  readonly propagation?: number;
  readonly recursive?: boolean;
}

/** mount_setattr(2) (Linux 5.12) on a mount point or on a detached mount. */
export function setMountAttributes(at: number | PathLike, options: MountAttributes): void {
  const attributes = Buffer.alloc(32);
  attributes.writeBigUInt64LE(BigInt(options.set ?? 0), 0);
  attributes.writeBigUInt64LE(BigInt(options.clear ?? 0), 8);
  attributes.writeBigUInt64LE(BigInt(options.propagation ?? 0), 16);
  const byFd = typeof at === 'number';
  call(
    { syscall: 'mount_setattr', path: byFd ? undefined : at },
    mountSetattr_,
    MOUNT_SETATTR,
    byFd ? at : AT_FDCWD,
    cString(byFd ? '' : at),
    (byFd ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW) | (options.recursive ? AT_RECURSIVE : 0),
    attributes,
    attributes.length,
  );
}

/** A configuration context is also a log: each read gives one message, and ENODATA ends it. */
function withMessages(error: unknown, context: number): unknown {
  const lines: string[] = [];
  const buffer = Buffer.alloc(4096);
  try {
    for (;;) lines.push(buffer.toString('utf8', 0, readSync(context, buffer)).trim());
  } catch {
    // ENODATA, the regular end; whatever else it may be, the first error is the one that counts.
  }
  if (error instanceof Error && lines.length > 0) error.message += `: ${lines.join('; ')}`;
  return error;
}
