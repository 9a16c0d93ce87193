import { readFileSync } from 'node:fs';
import { type ByteString, bytesOf } from '../dataset/byte-string.ts';
import { MOUNT_ATTR, type MountStatus, statMount } from '../system/calls.ts';

/** One line of /proc/<pid>/mountinfo (proc_pid_mountinfo(5)). */
export interface MountRecord {
  /** Unique on the machine while the mount lives; a file's `mnt_id` in fdinfo is one. */
  readonly id: number;
  /** The mount below: where two are stacked on one directory, the lower is the upper's parent. */
  readonly parent: number;
  /** Of the superblock, as `major:minor`. */
  readonly device: string;
  /** The directory of the filesystem that is seen at the mount point: not `/` in a bind mount of a subdirectory. */
  readonly root: ByteString;
  readonly mountPoint: ByteString;
  /** Of this mount: `ro`, `nosuid` and the like. */
  readonly attributes: readonly string[];
  readonly type: string;
  readonly source: ByteString;
  /** Of the superblock, separated by commas; commas in values stay escaped. */
  readonly options: ByteString;
}

/** The mounts that a process sees, lower before upper. */
export function readMountTable(process: number | 'self' = 'self'): MountRecord[] {
  return parseMountTable(readFileSync(`/proc/${process}/mountinfo`, 'latin1') as ByteString);
}

/**
 * Parses mountinfo: `id parent major:minor root mountpoint attributes optional-fields… - type source options`. Space, tab, newline
 * and backslash in names are written as `\` and three octal digits.
 */
export function parseMountTable(text: ByteString): MountRecord[] {
  const records: MountRecord[] = [];
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const fields = line.split(' ');
    const dash = fields.indexOf('-', 6);
    if (dash < 0 || fields.length < dash + 3) throw new Error(`this line of mountinfo cannot be read: ${line}`);
    records.push({
      id: Number(fields[0]),
      parent: Number(fields[1]),
      device: fields[2]!,
      root: unescapeField(fields[3]!),
      mountPoint: unescapeField(fields[4]!),
      attributes: fields[5]!.split(','),
      type: fields[dash + 1]!,
      source: unescapeField(fields[dash + 2]!),
      options: (fields[dash + 3] ?? '') as ByteString,
    });
  }
  return records;
}

function unescapeField(field: string): ByteString {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  ) as ByteString;
}

/**
 * The mount that a path lookup of exactly this directory (absolute, no symbolic links) ends in: the topmost of those stacked there. Without a table, the
 * kernel is asked for this mount alone where it can tell: a node has thousands, and each line of the table costs it some 12 us.
 */
export function mountAt(directory: string, table?: readonly MountRecord[]): MountRecord | undefined {
  const point = bytesOf(directory);
  if (table === undefined) {
    const status = statMount(directory);
    if (status === 'none') return undefined;
    if (status !== 'unknown') return recordOf(status, point);
  }
  const stacked = (table ?? readMountTable()).filter((record) => record.mountPoint === point);
  return stacked.find((record) => !stacked.some((other) => other.parent === record.id));
}

/** As mountinfo shows it. */
function recordOf(status: MountStatus, mountPoint: ByteString): MountRecord {
  const { id, parent, device, root, type, subtype, source } = status;
  return {
    id,
    parent,
    device: `${device.major}:${device.minor}`,
    root: root as ByteString,
    mountPoint,
    attributes: attributesOf(status.attributes),
    type: subtype === '' ? type : `${type}.${subtype}`,
    source: source as ByteString,
    options: [...flagsOf(status.flags), ...(status.options === '' ? [] : [status.options])].join(',') as ByteString,
  };
}

/** `SB_…` of linux/fs.h. */
function flagsOf(bits: number): string[] {
  const names = { sync: 16, dirsync: 128, lazytime: 1 << 25 };
  const set = Object.entries(names).filter(([, bit]) => (bits & bit) !== 0);
  return [bits & 1 ? 'ro' : 'rw', ...set.map(([name]) => name)];
}

function attributesOf(bits: number): string[] {
  const { readOnly, noSuid, noDev, noExec, noAtime, noSymfollow } = MOUNT_ATTR;
  const has = (bit: number, name: string) => (bits & bit ? [name] : []);
  const times = 0x70;
  return [
    bits & readOnly ? 'ro' : 'rw',
    ...has(noSuid, 'nosuid'),
    ...has(noDev, 'nodev'),
    ...has(noExec, 'noexec'),
    ...has(noAtime, 'noatime'),
    ...has(0x80, 'nodiratime'),
    ...((bits & times) === 0 ? ['relatime'] : []),
    ...has(noSymfollow, 'nosymfollow'),
  ];
}

/** Mounts at `directory` and below it, in an order in which they can be unmounted: what lies on top first. */
export function mountsUnder(directory: string, table = readMountTable()): MountRecord[] {
  const point = bytesOf(directory);
  const prefix = point === '/' ? point : `${point}/`;
  const inside = table.filter((record) => record.mountPoint === point || record.mountPoint.startsWith(prefix));
  const depths = new Map<number, number>();
  const parents = new Map(inside.map((record) => [record.id, record.parent]));
  const depthOf = (id: number): number => {
    const known = depths.get(id);
    if (known !== undefined) return known;
    const parent = parents.get(id);
    const depth = parent === undefined || parent === id ? 0 : 1 + depthOf(parent);
    depths.set(id, depth);
    return depth;
  };
  return inside.sort((a, b) => depthOf(b.id) - depthOf(a.id) || b.id - a.id);
}
