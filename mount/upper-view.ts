import { dirname } from 'node:path';
import { type ByteString, bufferOf } from '../dataset/byte-string.ts';
import { getxattr, setxattr } from '../system/calls.ts';
import { type Ownership, shownBy, type View, type Viewed } from './view.ts';

/**
 * Through which view the owners and permissions in an upper layer are to be seen: an attribute of the directory that it is in, in the same
 * filesystem, so that a clone has both of one moment. XFS has room for it, and for the marks, also where nobody else may write any more.
 */
const ATTRIBUTE = 'trusted.larder.view';

export interface UpperView {
  /** The newest first. Several while an upper layer is taken from one to another: what is there may be as any of them shows it. */
  readonly views: readonly [View, ...View[]];
  /** To whom new files belong that have the view's owner: the owner of the version's root directory. */
  readonly owner: Pick<Ownership, 'uid' | 'gid'>;
}

/** @param upper the upper directory; undefined where no view was ever shown through it */
export function readUpperView(upper: ByteString): UpperView | undefined {
  const value = getxattr(placeOf(upper), ATTRIBUTE);
  return value && (JSON.parse(value.toString()) as UpperView);
}

/** What is done to the layer afterwards is not on the disk before this is. */
export function writeUpperView(upper: ByteString, view: UpperView): void {
  setxattr(placeOf(upper), ATTRIBUTE, Buffer.from(JSON.stringify(view)));
}

function placeOf(upper: ByteString): Buffer {
  return bufferOf(dirname(upper) as ByteString);
}

/**
 * The owner and the permissions that a file of an upper layer has without the view.
 * @param marked what the version has, of a file that was copied up; undefined for a new one
 */
export function ownershipWithout(
  { views, owner }: UpperView,
  type: Viewed,
  seen: Ownership,
  marked: Ownership | undefined,
): Ownership {
  if (marked === undefined) return ownershipOfNew({ view: views.at(-1)!, owner }, type, seen);
  const shown = views.map((view) => shownBy(view, type, marked));
  const is = (key: keyof Ownership) => shown.some((one) => one[key] === seen[key]);
  return {
    mode: is('mode') ? marked.mode : changedBits(shown.at(-1)!.mode, seen.mode, marked.mode),
    uid: is('uid') ? marked.uid : seen.uid,
    gid: is('gid') ? marked.gid : seen.gid,
  };
}

/** Somebody changed permissions that the view shows: the bits that he changed count. */
function changedBits(shown: number, seen: number, of: number): number {
  const changed = shown ^ seen;
  return (seen & changed) | (of & ~changed);
}

function ownershipOfNew(
  { view, owner }: { readonly view: View; readonly owner: UpperView['owner'] },
  type: Viewed,
  seen: Ownership,
): Ownership {
  const { uid, gid, mountGroup } = view;
  const group = mountGroup ?? gid;
  // Directories in the view's have their set-group-id bit from those.
  const isInherited = type === 'directory' && mountGroup !== undefined && seen.gid === mountGroup;
  return {
    mode: isInherited ? seen.mode & ~0o2000 : seen.mode,
    uid: uid !== undefined && seen.uid === uid ? owner.uid : seen.uid,
    gid: group !== undefined && seen.gid === group ? owner.gid : seen.gid,
  };
}
