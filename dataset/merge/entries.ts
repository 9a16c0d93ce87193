import { differenceOf } from '../diff.ts';
import type { DirectoryEntry, Entry, FileEntry, SymlinkEntry, Xattr } from '../entry.ts';

export type Side = 'ours' | 'theirs';

/** How both sides changed a path so that neither can be taken without asking. */
export type ConflictKind = 'both-modified' | 'both-added' | 'deleted-by-ours' | 'deleted-by-theirs' | 'file-directory';

/** What becomes of a path. */
export type Outcome =
  | { readonly kind: Side }
  /** Of both: `content` tells whose content it has. */
  | { readonly kind: 'merged'; readonly entry: Entry; readonly content: Side }
  | { readonly kind: 'conflict'; readonly conflict: ConflictKind };

const OURS: Outcome = { kind: 'ours' };
const THEIRS: Outcome = { kind: 'theirs' };

type MaybeEntry = Entry | undefined;

/**
 * What becomes of a path, from what is there in the version that both sides began from and on each side; what lies below a directory is not
 * its concern. What only one side changed is as that side has it, as is what both changed in the same way. Of what both changed differently:
 *
 * - Directories are never in conflict. Mode, owner and attributes that both changed stay ours; the newer time is taken; one that a side
 *   removed is gone if nothing is left in it.
 * - Of files and symlinks, content, mode, owner and attributes each are taken from the side that changed them. What both changed
 *   differently is a conflict, as is anything that both did to a file with several names.
 * - A time is never a conflict: it goes with the content, and of the same content the newer one is taken. Removing wins over a new time or
 *   other names.
 */
export function resolveEntry(base: MaybeEntry, ours: MaybeEntry, theirs: MaybeEntry): Outcome {
  if (isSame(ours, theirs) || isSame(base, theirs)) return OURS;
  if (isSame(base, ours)) return THEIRS;
  if (ours === undefined) return resolveRemoval(base, theirs!, 'ours');
  if (theirs === undefined) return resolveRemoval(base, ours, 'theirs');
  if (ours.type === 'directory' && theirs.type === 'directory') {
    const entry = mergeDirectories(base?.type === 'directory' ? base : undefined, ours, theirs);
    return isSame(entry, ours) ? OURS : isSame(entry, theirs) ? THEIRS : { kind: 'merged', entry, content: 'ours' };
  }
  // A directory that stayed one, of which only its own mode and the like changed, makes way for what the other side made of it.
  if (isDirectory(base) && isDirectory(ours)) return THEIRS;
  if (isDirectory(base) && isDirectory(theirs)) return OURS;
  if (ours.type === 'directory' || theirs.type === 'directory') return { kind: 'conflict', conflict: 'file-directory' };
  return mergeFiles(base, ours, theirs) ?? conflictOf(base);
}

export function isDirectory(entry: MaybeEntry): entry is DirectoryEntry {
  return entry?.type === 'directory';
}

export function isSame(a: MaybeEntry, b: MaybeEntry): boolean {
  if (a === undefined || b === undefined) return a === b;
  return differenceOf(a, b) === undefined;
}

/** Whether a change is so small that removing the file wins over it: another time, or other names for it. */
export function isOnlyTouched(before: MaybeEntry, after: MaybeEntry): boolean {
  if (before === undefined || after === undefined || before.type !== after.type) return false;
  const { mtimeSeconds, mtimeNanos } = before;
  if (after.type !== 'file') return isSame(before, { ...after, mtimeSeconds, mtimeNanos });
  const { link: _, ...rest } = after;
  const { link: __, ...old } = before as FileEntry;
  return isSame(old, { ...rest, mtimeSeconds, mtimeNanos });
}

/** @param by who removed it; `changed` is what the other side has */
function resolveRemoval(base: MaybeEntry, changed: Entry, by: Side): Outcome {
  const isSettled = isDirectory(changed) ? isDirectory(base) : isOnlyTouched(base, changed);
  if (isSettled) return by === 'ours' ? OURS : THEIRS;
  return { kind: 'conflict', conflict: by === 'ours' ? 'deleted-by-ours' : 'deleted-by-theirs' };
}

function conflictOf(base: MaybeEntry): Outcome {
  return { kind: 'conflict', conflict: base === undefined ? 'both-added' : 'both-modified' };
}

function mergeDirectories(
  base: DirectoryEntry | undefined,
  ours: DirectoryEntry,
  theirs: DirectoryEntry,
): DirectoryEntry {
  const mode = pick(base?.mode, ours.mode, theirs.mode) ?? ours.mode;
  const uid = pick(base?.uid, ours.uid, theirs.uid) ?? ours.uid;
  const gid = pick(base?.gid, ours.gid, theirs.gid) ?? ours.gid;
  const { path } = ours;
  const xattrs = (pickXattrs(base, ours, theirs) ?? ours).xattrs;
  return { type: 'directory', path, mode, uid, gid, ...mergeTimes(base, ours, theirs), ...(xattrs && { xattrs }) };
}

/** Undefined where they are in conflict. */
function mergeFiles(
  base: MaybeEntry,
  ours: FileEntry | SymlinkEntry,
  theirs: FileEntry | SymlinkEntry,
): Outcome | undefined {
  if (ours.type !== theirs.type) return undefined;
  const old = base?.type === ours.type ? base : undefined;
  // What is taken of one name would have to be taken of the others, wherever they are.
  if ([base, ours, theirs].some((entry) => entry?.type === 'file' && entry.link !== undefined))
    return isOnlyTouched(ours, theirs) && linkOf(ours) === linkOf(theirs) ? OURS : undefined;
  const content = pickContent(old, ours, theirs);
  const mode = pick(old?.mode, ours.mode, theirs.mode);
  const uid = pick(old?.uid, ours.uid, theirs.uid);
  const gid = pick(old?.gid, ours.gid, theirs.gid);
  const attributed = pickXattrs(old, ours, theirs);
  if (content === undefined || mode === undefined || uid === undefined || gid === undefined || !attributed)
    return undefined;
  const of = content === 'theirs' ? theirs : ours;
  const { mtimeSeconds, mtimeNanos } = content === 'same' ? mergeTimes(old, ours, theirs) : of;
  const { xattrs: _, ...rest } = of;
  const { xattrs } = attributed;
  const entry: Entry = { ...rest, mode, uid, gid, mtimeSeconds, mtimeNanos, ...(xattrs && { xattrs }) };
  if (isSame(entry, ours)) return OURS;
  if (isSame(entry, theirs)) return THEIRS;
  return { kind: 'merged', entry, content: content === 'theirs' ? 'theirs' : 'ours' };
}

function linkOf(entry: Entry): string | undefined {
  return entry.type === 'file' ? entry.link : undefined;
}

/** The value that a field has after both sides; undefined where both changed it differently. */
function pick<T>(base: T | undefined, ours: T, theirs: T): T | undefined {
  if (ours === theirs || theirs === base) return ours;
  return ours === base ? theirs : undefined;
}

function pickContent(base: MaybeEntry, ours: Entry, theirs: Entry): Side | 'same' | undefined {
  if (hasSameContent(ours, theirs)) return 'same';
  if (base === undefined) return undefined;
  if (hasSameContent(base, theirs)) return 'ours';
  return hasSameContent(base, ours) ? 'theirs' : undefined;
}

function hasSameContent(a: Entry, b: Entry): boolean {
  const kind = differenceOf(a, b);
  return kind === undefined || kind === 'metadata';
}

/** Whichever has the attributes that come out; undefined where both changed them differently. */
function pickXattrs(base: MaybeEntry, ours: Entry, theirs: Entry): Entry | undefined {
  if (sameXattrs(ours.xattrs, theirs.xattrs)) return ours;
  if (base === undefined) return undefined;
  if (sameXattrs(base.xattrs, theirs.xattrs)) return ours;
  return sameXattrs(base.xattrs, ours.xattrs) ? theirs : undefined;
}

function sameXattrs(a: readonly Xattr[] = [], b: readonly Xattr[] = []): boolean {
  return a.length === b.length && a.every(({ name, value }, i) => name === b[i]!.name && value.equals(b[i]!.value));
}

type Times = Pick<Entry, 'mtimeSeconds' | 'mtimeNanos'>;

/** The time that one side changed; of two that were changed, the newer. */
function mergeTimes(base: Times | undefined, ours: Times, theirs: Times): Times {
  const compare = (a: Times, b: Times) => a.mtimeSeconds - b.mtimeSeconds || a.mtimeNanos - b.mtimeNanos;
  let { mtimeSeconds, mtimeNanos } = compare(ours, theirs) < 0 ? theirs : ours;
  if (base !== undefined && compare(base, theirs) === 0) ({ mtimeSeconds, mtimeNanos } = ours);
  else if (base !== undefined && compare(base, ours) === 0) ({ mtimeSeconds, mtimeNanos } = theirs);
  return { mtimeSeconds, mtimeNanos };
}
