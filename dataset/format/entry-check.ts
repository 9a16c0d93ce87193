import { type Entry, type FileEntry, INLINE_LIMIT, type Xattr } from '../entry.ts';
import { pathFault } from '../path.ts';
import { partsSize } from './parts.ts';

/** The longest target of a symbolic link, in bytes: PATH_MAX without its NUL. */
const TARGET_LIMIT = 4095;
/** The longest value of an extended attribute, in bytes: XATTR_SIZE_MAX. */
const XATTR_LIMIT = 65_536;
/** Times are within 2^51 seconds of 1970, so that a difference of two fits a signed varint. */
const TIME_LIMIT = 2 ** 51;

/** What no entry of a manifest may be, in words that follow "the entry"; undefined for a sound one. Used in writing and reading. */
export function entryFault(entry: Entry): string | undefined {
  const inPath = pathFault(entry.path);
  if (inPath !== undefined) return `has a path that ${inPath}`;
  if (entry.path === '' && entry.type !== 'directory') return 'is the root, and no directory';
  if (!isWithinLimit(entry.mode, 0o7777)) return `has the mode ${entry.mode.toString(8)}`;
  if (!isWithinLimit(entry.uid, 0xffff_fffe)) return `has the owner ${entry.uid}`;
  if (!isWithinLimit(entry.gid, 0xffff_fffe)) return `has the group ${entry.gid}`;
  if (!Number.isSafeInteger(entry.mtimeSeconds) || Math.abs(entry.mtimeSeconds) > TIME_LIMIT)
    return `has the time ${entry.mtimeSeconds}`;
  if (!isWithinLimit(entry.mtimeNanos, 999_999_999)) return `has ${entry.mtimeNanos} nanoseconds`;
  if (entry.xattrs !== undefined) {
    const fault = xattrsFault(entry.xattrs);
    if (fault !== undefined) return fault;
  }
  if (entry.type === 'file') return fileFault(entry);
  if (entry.type === 'symlink') {
    const { length } = entry.target;
    if (length === 0 || length > TARGET_LIMIT) return `has a target of ${length} bytes`;
    if (entry.target.includes('\0')) return 'has a target with a NUL byte';
  }
  return undefined;
}

function fileFault(entry: FileEntry): string | undefined {
  const { size, content } = entry;
  if (!isWithinLimit(size, Number.MAX_SAFE_INTEGER)) return `has the size ${size}`;
  if (content.kind === 'inline') {
    if (content.bytes.length > INLINE_LIMIT)
      return `has ${content.bytes.length} bytes inline, more than ${INLINE_LIMIT}`;
    if (content.bytes.length !== size) return `has the size ${size} and ${content.bytes.length} bytes inline`;
  } else if (content.kind === 'chunk') {
    if (size === 0) return 'is empty and has a chunk';
  } else if (content.kind === 'chunks') {
    const total = partsSize(content.parts);
    if (total !== size) return `has the size ${size} and parts of ${total} bytes`;
  }
  if (entry.link !== undefined) {
    const fault = entry.link === '' ? 'is empty' : pathFault(entry.link);
    if (fault !== undefined) return `has a link group whose name ${fault}`;
  }
  return undefined;
}

function xattrsFault(xattrs: readonly Xattr[]): string | undefined {
  if (xattrs.length === 0) return 'has an empty list of extended attributes';
  let previous = '';
  for (const { name, value } of xattrs) {
    if (!name.startsWith('user.') || name.length < 6 || name.length > 255 || name.includes('\0'))
      return 'has an extended attribute whose name is not allowed';
    if (name <= previous) return 'has extended attributes that are out of order';
    if (value.length > XATTR_LIMIT) return `has an extended attribute of ${value.length} bytes`;
    previous = name;
  }
  return undefined;
}

function isWithinLimit(value: number, limit: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && value <= limit;
}
