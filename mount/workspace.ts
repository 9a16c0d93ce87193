import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  fsync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { bufferOf } from '../dataset/byte-string.ts';
import type { DirectoryEntry } from '../dataset/entry.ts';
import {
  ConflictError,
  DiskFullError,
  InvalidError,
  isDiskFull,
  isErrno,
  UnavailableError,
} from '../dataset/errors.ts';
import {
  fallocate,
  loopSetCapacity,
  MS,
  mountAsync,
  punchHole,
  seekData,
  seekHole,
  setxattr,
  utimensat,
  xfsGeometry,
  xfsGrow,
} from '../system/calls.ts';
import { faultPoint } from '../system/fault.ts';
import { attachLoop, backingFile, isDirectIo, loopDevicesOf } from './loop.ts';
import { type MountRecord, mountAt } from './mount-table.ts';
import { runTool } from './run-tool.ts';
import { showUpper } from './show-upper.ts';
import { unmount } from './unmount.ts';
import type { View } from './view.ts';
import type { XfsTemplates } from './xfs-template.ts';

const synced = promisify(fsync);

/** mkfs.xfs makes no smaller filesystem: 300 MiB, of which the log takes 64. */
export const MIN_WORKSPACE_BYTES = 300 * 2 ** 20;

const MIB = 2 ** 20;

/** Sectors of 4096 bytes: then direct I/O works on every disk. */
const SECTOR = 4096;

export interface NewWorkspace {
  /** The image file to make. */
  readonly file: string;
  /** In bytes; rounded up to a multiple of 4096. */
  readonly capacity: number;
  /** Take the disk space now, so that the workspace cannot run out of it before its capacity. Without it, the file is sparse. */
  readonly reserve?: boolean;
  /** What was learned from others of this size: mkfs.xfs is a process of its own, which takes some 25 ms. */
  readonly templates?: XfsTemplates | undefined;
}

/**
 * Makes a workspace's image: a file with an XFS of this capacity, complete or not there at all. Writers later meet ENOSPC at its end.
 */
export async function createWorkspaceImage({ file, capacity, reserve, templates }: NewWorkspace): Promise<void> {
  checkCapacity(capacity);
  if (existsSync(file)) throw new ConflictError(`the workspace image ${file} exists already`, { facts: { file } });
  const temporary = `${file}.new`;
  rmSync(temporary, { force: true });
  const fd = openSync(temporary, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  try {
    const size = roundUp(capacity);
    if (reserve || !templates?.fill(fd, size)) {
      ftruncateSync(fd, size);
      if (reserve) fallocate(fd, 0, size);
      await runTool('mkfs.xfs', ['-q', '-K', '-s', `size=${SECTOR}`, '-m', 'reflink=1', temporary], 'xfsprogs');
      if (!reserve) {
        digHoles(fd, size);
        templates?.learn(fd, size);
      }
    }
    await synced(fd);
  } catch (error) {
    rmSync(temporary, { force: true });
    if (isDiskFull(error)) {
      throw new DiskFullError(`the disk of ${file} has no room for a workspace of ${capacity} bytes`, {
        cause: error,
      });
    }
    throw error;
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, file);
  await syncDirectory(dirname(file));
}

/**
 * Gives back what is allocated and holds nothing: mkfs.xfs takes the space of the whole log, 64 MiB at least, by unwritten extents, which
 * read as zeros just as holes do. A log takes its space as it is written.
 */
function digHoles(fd: number, size: number): void {
  for (let at = seekHole(fd, 0); at !== undefined && at < size; ) {
    const data = seekData(fd, at);
    punchHole(fd, at, (data ?? size) - at);
    at = data === undefined ? undefined : seekHole(fd, data);
  }
}

/**
 * What a new workspace's image takes of the disk, in bytes, before anything is in it: XFS's tables, a few for each of its groups, of which there is
 * one a TiB and at least four, and the 2 MiB of the log that each mount clears ahead of its end.
 */
export function newWorkspaceBytes(capacity: number): number {
  return 4 * MIB + Math.ceil(capacity / 2 ** 40) * MIB;
}

function checkCapacity(capacity: number): void {
  if (capacity >= MIN_WORKSPACE_BYTES) return;
  throw new InvalidError(
    `a workspace of ${capacity} bytes is too small: ask for at least ${MIN_WORKSPACE_BYTES} bytes (300 MiB), which XFS needs`,
    { facts: { capacityBytes: capacity, minimumBytes: MIN_WORKSPACE_BYTES } },
  );
}

export interface WorkspaceMountOptions {
  readonly file: string;
  /** An existing directory. */
  readonly at: string;
  /** The root of the version below: the workspace's root has its mode, owner, time and attributes, until it is changed. */
  readonly root: DirectoryEntry;
  /** Owners and permissions that the image below shows. */
  readonly view?: View | undefined;
}

export interface MountedWorkspace {
  /** For `mountOverlay`. */
  readonly upper: string;
  readonly work: string;
  readonly directIo: boolean;
}

/**
 * Mounts a workspace's filesystem read-write, replays its log if the node crashed, and completes a growth that was interrupted.
 * Mounting the same file there again changes nothing. Where an old mount of the file is still in use (it was detached while a
 * process had files open), this is a second sight of the same filesystem, never a second filesystem on one file.
 */
export async function mountWorkspace({ file, at, root, view }: WorkspaceMountOptions): Promise<MountedWorkspace> {
  await mountWorkspaceFile({ file, at });
  await growToFile(at);
  const upper = join(at, 'upper');
  const work = join(at, 'work');
  if (!existsSync(upper)) await prepareUpper(upper, root);
  await showUpper({ upper, view, root });
  await mkdir(work, { recursive: true, mode: 0o700 });
  return { upper, work, directIo: isDirect(at) };
}

/** The first step of `mountWorkspace`, for who needs no more than the files: nothing is prepared in it. */
export async function mountWorkspaceFile({ file, at }: Pick<WorkspaceMountOptions, 'file' | 'at'>): Promise<void> {
  const existing = mountAt(realpathSync(at));
  if (existing && !isOn(existing, file)) {
    throw new ConflictError(
      `${at} is where the workspace ${file} should be mounted, and ${existing.type} is mounted there`,
      {
        facts: { file, at },
      },
    );
  }
  if (!existing) await mountXfs(file, at);
  else if (isReadOnly(existing)) await remount(at, 0);
}

/**
 * Makes the directory where a workspace is to be mounted. A filesystem there that the kernel has shut down, because its disk failed or was full, is
 * let go of: mounted again, it has what was synced, and may be written to.
 */
export async function prepareMountPoint(at: string): Promise<void> {
  try {
    statSync(at);
  } catch (error) {
    if (isErrno(error, 'EIO')) await unmount(at);
    else if (!isErrno(error, 'ENOENT')) throw error;
  }
  mkdirSync(at, { recursive: true, mode: 0o700 });
}

/**
 * Sees to it that nobody can write to a mounted workspace any more, by whatever mount of it, until it is mounted again.
 * @returns false, and changes nothing, while somebody has a file open for writing
 */
export async function closeWorkspace(at: string): Promise<boolean> {
  try {
    await remount(at, MS.readOnly);
    return true;
  } catch (error) {
    if (isErrno(error, 'EBUSY')) return false;
    throw error;
  }
}

const MOUNT_FLAGS = MS.noSuid | MS.noDev | MS.noAtime;

async function remount(at: string, flags: number): Promise<void> {
  await mountAsync({ source: 'none', target: at, flags: MS.remount | MOUNT_FLAGS | flags });
}

function isReadOnly({ options, attributes }: MountRecord): boolean {
  return attributes.includes('ro') || options.split(',').includes('ro');
}

// discard: what is deleted inside is a hole in the file again.
const MOUNT_DATA = 'discard';

/**
 * A new device first, without a look at those that are there, which takes long on a node that has a thousand: while another mount of the same file is
 * alive, the kernel refuses the second (EINVAL, before it reads the log or writes), for no two XFS may have one UUID.
 */
async function mountXfs(file: string, at: string): Promise<void> {
  const attached = await attachAndMount(file, at);
  if (attached === 'mounted') return;
  const [used] = loopDevicesOf(file);
  // Its last mount may have ended meanwhile.
  const again = used === undefined ? await attachAndMount(file, at) : await mountUsed(used, at);
  if (again !== 'mounted') throw refused(file, at, again);
}

/** @returns why the kernel refused it */
async function attachAndMount(file: string, at: string): Promise<unknown> {
  using loop = await attachLoop({ file, readOnly: false, directIo: true, blockSize: SECTOR });
  try {
    await mountAsync({ source: loop.path, target: at, type: 'xfs', flags: MOUNT_FLAGS, data: MOUNT_DATA });
    return 'mounted';
  } catch (error) {
    if (isErrno(error, 'EINVAL')) return error;
    throw refused(file, at, error);
  }
}

async function mountUsed(source: string, at: string): Promise<'mounted'> {
  const one = { source, target: at, type: 'xfs', data: MOUNT_DATA };
  try {
    await mountAsync({ ...one, flags: MOUNT_FLAGS });
  } catch (error) {
    if (!isErrno(error, 'EBUSY')) throw error;
    // It is read-only, as the last save left it.
    await mountAsync({ ...one, flags: MOUNT_FLAGS | MS.readOnly });
    await remount(at, 0);
  }
  return 'mounted';
}

function refused(file: string, at: string, cause: unknown): UnavailableError {
  const advice = isErrno(cause, 'ENODEV')
    ? 'the kernel has no XFS: load it (modprobe xfs)'
    : isErrno(cause, 'EPERM')
      ? 'mounting needs CAP_SYS_ADMIN: run as root'
      : isErrno(cause, 'EUCLEAN')
        ? `its filesystem is damaged: xfs_repair ${file}`
        : "the kernel's log (dmesg) has the reason";
  const message = cause instanceof Error ? cause.message : String(cause);
  return new UnavailableError(`the workspace ${file} cannot be mounted at ${at} (${message}): ${advice}`, {
    cause,
    facts: { file, at },
  });
}

/** Under another name first: an `upper` that is there has its attributes. */
async function prepareUpper(upper: string, root: DirectoryEntry): Promise<void> {
  const temporary = `${upper}.new`;
  rmSync(temporary, { recursive: true, force: true });
  // Off the event loop: the first change to a filesystem waits for its disk.
  await mkdir(temporary);
  chownSync(temporary, root.uid, root.gid);
  chmodSync(temporary, root.mode);
  for (const { name, value } of root.xattrs ?? []) setxattr(temporary, bufferOf(name), value);
  utimensat(temporary, 'now', { seconds: root.mtimeSeconds, nanos: root.mtimeNanos });
  renameSync(temporary, upper);
  await syncDirectory(dirname(upper));
}

/** Whether the workspace is mounted at its place, and nothing else. */
export function isWorkspaceMounted({ file, at }: Pick<WorkspaceMountOptions, 'file' | 'at'>): boolean {
  const record = mountAt(realpathSync(at));
  return record !== undefined && isOn(record, file);
}

function isOn(record: MountRecord, file: string): boolean {
  return record.type === 'xfs' && backingFile(record.source) === realpathSync(file);
}

function isDirect(at: string): boolean {
  return isDirectIo(mountedDevice(at));
}

/** The loop device of the XFS mounted at `at`. */
function mountedDevice(at: string): string {
  const record = mountAt(realpathSync(at));
  if (record?.type !== 'xfs') throw new UnavailableError(`no workspace is mounted at ${at}`, { facts: { at } });
  return record.source;
}

/**
 * Makes a mounted workspace larger while it is used. A capacity that it has already changes nothing; it never shrinks.
 * @returns its size afterwards, in bytes
 */
export async function growWorkspace(options: {
  readonly file: string;
  readonly at: string;
  readonly capacity: number;
}): Promise<number> {
  growWorkspaceImage(options);
  faultPoint('grow.file-longer');
  await growToFile(options.at);
  faultPoint('grow.grown');
  return statSync(options.file).size;
}

/** Makes the image larger while it is not mounted; the filesystem follows at the next mount. @returns its size in bytes */
export function growWorkspaceImage({ file, capacity }: { readonly file: string; readonly capacity: number }): number {
  const fd = openSync(file, 'r+');
  try {
    const { size } = fstatSync(fd);
    const wanted = Math.max(size, roundUp(capacity));
    if (wanted > size) {
      ftruncateSync(fd, wanted);
      fsyncSync(fd);
    }
    return wanted;
  } finally {
    closeSync(fd);
  }
}

/** Device, then filesystem, up to the file's size: each step changes nothing where it was done before. */
async function growToFile(at: string): Promise<void> {
  const path = mountedDevice(at);
  const file = backingFile(path);
  const { size } = statSync(file!);
  const fd = openSync(at, 'r');
  try {
    const geometry = xfsGeometry(fd);
    const blocks = Math.floor(size / geometry.blockSize);
    // A filesystem may end short of its device by a piece too small for an allocation group; it is not asked for that again.
    if (blocks <= geometry.blocks) return;
    const device = openSync(path, 'r+');
    try {
      loopSetCapacity(device);
    } finally {
      closeSync(device);
    }
    await xfsGrow(fd, blocks, geometry.inodePercent);
  } finally {
    closeSync(fd);
  }
}

export interface WorkspaceUsage {
  /** What can be written in all: the capacity less XFS's log and tables. Bytes. */
  readonly totalBytes: number;
  readonly usedBytes: number;
  readonly availableBytes: number;
  readonly totalInodes: number;
  readonly usedInodes: number;
}

/** What a mounted workspace holds, by statfs; `at` may be the workspace's filesystem or the overlay on it. */
export function workspaceUsage(at: string): WorkspaceUsage {
  const { bsize, blocks, bfree, bavail, files, ffree } = statfsSync(at);
  return {
    totalBytes: blocks * bsize,
    usedBytes: (blocks - bfree) * bsize,
    availableBytes: bavail * bsize,
    totalInodes: files,
    usedInodes: files - ffree,
  };
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / SECTOR) * SECTOR;
}

async function syncDirectory(directory: string): Promise<void> {
  const fd = openSync(directory, 'r');
  try {
    await synced(fd);
  } finally {
    closeSync(fd);
  }
}
