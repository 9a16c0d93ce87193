import type { ByteString } from '../byte-string.ts';
import type { Xattr } from '../entry.ts';

/** A file that is still to be read: what is known of it, and what shows that it has not changed since. */
export interface PendingFile {
  readonly path: ByteString;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanos: number;
  /** In bytes. */
  readonly size: number;
  /** What the entry is to have instead of the file's own. */
  readonly owner?: Readonly<Record<'mode' | 'uid' | 'gid', number>>;
  /** Absent: they are read from the file too. */
  readonly xattrs?: readonly Xattr[];
  /**
   * The hard-link group. Of several files with the same one and the same inode, one is read. The first member must stand before the
   * others.
   */
  readonly link?: ByteString;
  /** How many names the inode has, in the group or elsewhere; after as many, it is forgotten. */
  readonly names?: number;
  /** The absolute path to read. */
  readonly from: ByteString;
  readonly identity: FileIdentity;
}

/** What changes when a file does, besides size and mtime. Inexact beyond 2^53, which only costs reading a file again. */
export interface FileIdentity {
  readonly inode: number;
  readonly ctimeSeconds: number;
  readonly ctimeNanos: number;
}

/** The facts of a file as a worker gets them and gives them back: numbers in a fixed order. */
export const FACTS = 11;
export const FACT = {
  size: 0,
  mtimeSeconds: 1,
  mtimeNanos: 2,
  inode: 3,
  ctimeSeconds: 4,
  ctimeNanos: 5,
  mode: 6,
  uid: 7,
  gid: 8,
  /** In bytes: less than the size where there are holes. */
  allocated: 9,
  nlink: 10,
} as const;
/** Facts before this one decide whether the file is still the same. */
export const DECIDING_FACTS = 6;

export function factsOf(file: PendingFile, into: Float64Array, at: number): void {
  into[at] = file.size;
  into[at + 1] = file.mtimeSeconds;
  into[at + 2] = file.mtimeNanos;
  into[at + 3] = file.identity.inode;
  into[at + 4] = file.identity.ctimeSeconds;
  into[at + 5] = file.identity.ctimeNanos;
  into[at + 6] = file.mode;
  into[at + 7] = file.uid;
  into[at + 8] = file.gid;
}
