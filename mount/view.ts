import type { ByteString } from '../dataset/byte-string.ts';

/** Owners and permissions that a volume shows instead of the dataset's. */
export interface View {
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  /** Permissions of all directories, 0 to 0o777; files have the same, executable only where the dataset says so. */
  readonly mode?: number | undefined;
  /**
   * Files belong to this group (which counts instead of `gid`), and it may do with them what their owner may: a pod's `fsGroup`. New files of
   * a workspace belong to it too, and whoever makes them lets it write to them, whatever his umask is.
   */
  readonly mountGroup?: number | undefined;
}

/** What a view changes of an entry. */
export interface Ownership {
  /** 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export type Viewed = 'file' | 'directory' | 'symlink';

const SET_GROUP = 0o2000;
const SET_IDS = 0o6000;
const EXECUTE = 0o111;
const PERMISSIONS = 0o777;

/**
 * Names what a view does, in characters that any file name may have: two views of one name show the same. Empty where nothing is shown otherwise
 * than the dataset says.
 */
export function viewName(view: View | undefined): string {
  if (view === undefined) return '';
  const { uid, gid, mode, mountGroup } = view;
  const parts: string[] = [];
  if (uid !== undefined) parts.push(`u${uid}`);
  if (mountGroup !== undefined) parts.push(`f${mountGroup}`);
  else if (gid !== undefined) parts.push(`g${gid}`);
  if (mode !== undefined) parts.push(`m${mode.toString(8)}`);
  return parts.join('-');
}

/**
 * How a view shows an entry. A file loses set-user-id and set-group-id, as it does when its owner changes; links have no permissions of
 * their own.
 */
export function shownBy(view: View | undefined, type: Viewed, of: Ownership): Ownership {
  if (viewName(view) === '') return of;
  const { uid = of.uid, gid = of.gid, mode: wanted, mountGroup } = view!;
  const owner = { uid, gid: mountGroup ?? gid };
  if (type === 'symlink') return { mode: of.mode, ...owner };
  let { mode } = of;
  if (type === 'file') mode &= ~SET_IDS;
  if (wanted !== undefined) {
    const isExecutable = type === 'directory' || (mode & EXECUTE) !== 0;
    mode = (mode & ~PERMISSIONS) | (isExecutable ? wanted : wanted & ~EXECUTE);
  }
  if (mountGroup !== undefined) {
    mode |= (mode & 0o700) >> 3;
    if (type === 'directory') mode |= SET_GROUP;
  }
  return { mode, ...owner };
}

/** What new files of a directory get of permissions, unless whoever makes them asks for less: the umask has no say then. */
export const DEFAULT_ACL = 'system.posix_acl_default' as ByteString;

/** Linux's include/uapi/linux/posix_acl_xattr.h: a version, then tag, permissions and id of each entry; little-endian. */
const ACL_VERSION = 2;
const ACL = [
  { tag: 0x01, permissions: 0o7 },
  { tag: 0x04, permissions: 0o7 },
  { tag: 0x20, permissions: 0o5 },
] as const;
const NO_ID = 0xffff_ffff;

const ofGroup = Buffer.alloc(4 + ACL.length * 8);
ofGroup.writeUInt32LE(ACL_VERSION);
for (const [index, { tag, permissions }] of ACL.entries()) {
  ofGroup.writeUInt16LE(tag, 4 + index * 8);
  ofGroup.writeUInt16LE(permissions, 6 + index * 8);
  ofGroup.writeUInt32LE(NO_ID, 8 + index * 8);
}

/** The value of `DEFAULT_ACL` that a view shows of an entry: what is made in a group's directory, the group may write. */
export function defaultAclBy(view: View | undefined, type: Viewed): Buffer | undefined {
  return type === 'directory' && view?.mountGroup !== undefined ? ofGroup : undefined;
}
