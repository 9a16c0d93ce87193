import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { type ByteString, textOf } from '../dataset/byte-string.ts';
import { isErrno } from '../dataset/errors.ts';
import { type MountRecord, parseMountTable, readMountTable } from './mount-table.ts';

/** Why a mount is busy: one process and one way in which it holds it. */
export interface Holder {
  readonly pid: number;
  /** The program's name, as `ps` shows it. */
  readonly command: string;
  readonly how: 'open file' | 'working directory' | 'root directory' | 'program' | 'mapped file' | 'mount';
  /** What it holds, as that process sees it. */
  readonly path: string;
}

const O_PATH = 0o10000000;

/**
 * Who holds this mount: open files, working and root directories, programs and mapped files of every process, and mounts
 * on top of it in any mount namespace. The kernel tells for each open file by which mount it was opened (`mnt_id`), so that neither
 * bind mounts nor namespaces mislead. Reads all of /proc: for when an unmount was refused, not before.
 */
export async function holdersOf(mount: MountRecord, limit = 100): Promise<Holder[]> {
  const holders: Holder[] = [];
  const namespaces = new Set<string>([linkOf('/proc/self/ns/mnt') ?? '']);
  const inside = readMountTable().find((record) => record.parent === mount.id);
  const ours = inside && { pid: process.pid, how: 'mount' as const, path: textOf(inside.mountPoint) };
  if (ours) holders.push({ ...ours, command: commandOf(process.pid) });
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    for (const { how, path } of holdsOf(pid, mount, namespaces)) {
      if (holders.length >= limit) return holders;
      holders.push({ pid, command: commandOf(pid), how, path });
    }
    // A busy node has thousands of processes: others get their turn in between.
    await turn();
  }
  return holders;
}

/** `python3 (pid 4711): open file /data/1.bin`, for a message. */
export function describeHolder({ pid, command, how, path }: Holder): string {
  return `${command} (pid ${pid}): ${how} ${path}`;
}

function* holdsOf(pid: number, mount: MountRecord, namespaces: Set<string>): Generator<Pick<Holder, 'how' | 'path'>> {
  const at = `/proc/${pid}`;
  const ids = new Set([mount.id]);
  const namespace = linkOf(`${at}/ns/mnt`);
  if (namespace !== undefined && !namespaces.has(namespace)) {
    namespaces.add(namespace);
    for (const record of tableOf(pid)) {
      if (record.device !== mount.device) continue;
      ids.add(record.id);
      yield { how: 'mount', path: textOf(record.mountPoint) };
    }
  }
  const places = [
    ['cwd', 'working directory'],
    ['root', 'root directory'],
    ['exe', 'program'],
  ] as const;
  for (const [name, how] of places) {
    if (ids.has(mountIdOf(`${at}/${name}`) ?? -1)) yield { how, path: linkOf(`${at}/${name}`) ?? '?' };
  }
  const paths = new Set<string>();
  for (const fd of list(`${at}/fdinfo`)) {
    const id = /^mnt_id:\s*(\d+)/m.exec(read(`${at}/fdinfo/${fd}`) ?? '');
    if (!id || !ids.has(Number(id[1]))) continue;
    const path = linkOf(`${at}/fd/${fd}`) ?? '?';
    if (!paths.has(path)) yield { how: 'open file', path };
    paths.add(path);
  }
  for (const range of list(`${at}/map_files`)) {
    const path = linkOf(`${at}/map_files/${range}`);
    // Most mappings are libraries, many times each: one look per file.
    if (path === undefined || paths.has(path)) continue;
    paths.add(path);
    if (ids.has(mountIdOf(`${at}/map_files/${range}`) ?? -1)) yield { how: 'mapped file', path };
  }
}

/** The mount by which a link of /proc leads to its file. Opened with O_PATH: nothing is read, no device or FIFO is touched. */
function mountIdOf(link: string): number | undefined {
  let fd: number;
  try {
    fd = openSync(link, O_PATH);
  } catch (error) {
    return gone(error);
  }
  try {
    return Number(/^mnt_id:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1]);
  } finally {
    closeSync(fd);
  }
}

function tableOf(pid: number): MountRecord[] {
  return parseMountTable((read(`/proc/${pid}/mountinfo`) ?? '') as ByteString);
}

function commandOf(pid: number): string {
  return read(`/proc/${pid}/comm`)?.trim() ?? '?';
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    return gone(error) ?? [];
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    return gone(error);
  }
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch (error) {
    return gone(error);
  }
}

/** Processes end while they are looked at, kernel threads have no files, and some are not ours to look into. */
function gone(error: unknown): undefined {
  const codes = ['ENOENT', 'ESRCH', 'EACCES', 'EPERM', 'EINVAL', 'ENOTDIR', 'EIO', 'ELOOP', 'ENXIO'];
  if (codes.some((code) => isErrno(error, code))) return undefined;
  throw error;
}
