import { chmodSync, lchownSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { type ByteString, bytesOf } from '../dataset/byte-string.ts';
import { DeepPaths, fsPath } from '../dataset/import/deep-path.ts';
import { joinPath } from '../dataset/path.ts';
import { llistxattr, lremovexattr, lsetxattr } from '../system/calls.ts';
import { encodeOwner, OWNER_MARK } from './owner-mark.ts';
import { type UpperFile, UpperReader, viewedAs } from './upper-file.ts';
import { readUpperView, writeUpperView } from './upper-view.ts';
import { DEFAULT_ACL, defaultAclBy, type Ownership, shownBy, type View, viewName } from './view.ts';

export interface ShowOptions {
  /** The upper directory, which nobody uses. */
  readonly upper: string;
  readonly view: View | undefined;
  /** The version's root directory. */
  readonly root: Pick<Ownership, 'uid' | 'gid'>;
}

/** Files that are changed between two turns of the event loop. */
const SLICE = 128;

/**
 * Lets an upper layer be seen through a view: what it holds gets the owners and the permissions that this view shows, and what it is without one is
 * marked. Where it is seen through this view already, nothing is done; else all that it holds is gone through. After a crash it goes on.
 */
export async function showUpper({ upper, view = {}, root }: ShowOptions): Promise<void> {
  const layer = bytesOf(upper);
  const kept = readUpperView(layer);
  const before = kept ?? { views: [{}] as const, owner: { uid: root.uid, gid: root.gid } };
  if (before.views.length === 1 && viewName(before.views[0]) === viewName(view)) return;
  writeUpperView(layer, { ...before, views: [view, ...before.views] });
  await showAll(layer, view);
  writeUpperView(layer, { ...before, views: [view] });
}

async function showAll(upper: ByteString, view: View): Promise<void> {
  using reader = new UpperReader(upper);
  using paths = new DisposableStack();
  const deep = paths.adopt(new DeepPaths(), (one) => one.close());
  let count = 0;
  const left: ByteString[] = ['' as ByteString];
  for (let path = left.pop(); path !== undefined; path = left.pop()) {
    const found = reader.examine(path);
    // All whiteouts are one inode, which is nobody's.
    if (found.kind !== 'whiteout') showOne(fsPath(deep.reach(reader.absolute(path))), found, view);
    if (found.kind === 'directory') for (const name of reader.list(path)) left.push(joinPath(path, name));
    count += 1;
    if (count % SLICE === 0) await turn();
  }
}

/** First the mark, which says the same before and after. */
function showOne(at: string | Buffer, { kind, status, owner, marked }: UpperFile, view: View): void {
  const type = viewedAs(kind);
  const wanted = shownBy(view, type, owner);
  if (marked === undefined || !encodeOwner(marked).equals(encodeOwner(owner)))
    lsetxattr(at, OWNER_MARK, encodeOwner(owner));
  const isOwned = Number(status.uid) === wanted.uid && Number(status.gid) === wanted.gid;
  if (!isOwned) lchownSync(at, wanted.uid, wanted.gid);
  // Changing the owner takes bits away.
  const acl = defaultAclBy(view, type);
  if (acl !== undefined) lsetxattr(at, DEFAULT_ACL, acl);
  else if (type === 'directory' && llistxattr(at).includes(DEFAULT_ACL)) lremovexattr(at, DEFAULT_ACL);
  if (type !== 'symlink' && (!isOwned || Number(status.mode & 0o7777n) !== wanted.mode)) chmodSync(at, wanted.mode);
}
