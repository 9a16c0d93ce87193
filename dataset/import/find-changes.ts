import { type ByteString, textOf } from '../byte-string.ts';
import type { DirectoryEntry, Entry, SymlinkEntry } from '../entry.ts';
import { joinPath } from '../path.ts';
import { LinkGroups } from './link-groups.ts';
import { COLUMN, signedWide, TYPE, TYPE_MASK, wide } from './listing.ts';
import type { PendingFile } from './pending.ts';
import type { Change } from './read-changes.ts';
import { STATE } from './scan.ts';
import type { Found } from './walk.ts';

/** An inode of several names as the walk has met it. */
interface MetInode {
  /** The name of the group that this walk made of it; undefined while all that was met is as it was. */
  readonly link: ByteString | undefined;
  /** A path of it that is as it was. */
  readonly same: ByteString | undefined;
}

export interface FindChangesOptions {
  /** The absolute path of the directory that is walked. */
  readonly source: ByteString;
  /** The entry at a path of the version that the walk compares with. */
  readonly before: (path: ByteString) => Promise<Entry | undefined>;
}

/** Makes changes of what a walk found. The root's own entry is not among them. */
export async function* findChanges(
  found: AsyncIterable<readonly Found[]>,
  { source, before }: FindChangesOptions,
): AsyncGenerator<Change[]> {
  const inodes = new LinkGroups<MetInode>();

  /** What to do about one of several names of a file; undefined where nothing is. */
  const linked = async (at: Found, names: number): Promise<Change | undefined> => {
    const { path, state } = at;
    const key = inodeOf(at);
    const met = inodes.take(key);
    if (state === STATE.same) {
      if (met === undefined) inodes.add(key, { link: undefined, same: path }, names);
      // A name that is new came earlier: this one joins it.
      return met?.link === undefined ? undefined : { kind: 'read', file: pendingOf(at, source, met.link, names) };
    }
    if (met?.link !== undefined) return { kind: 'read', file: pendingOf(at, source, met.link, names) };
    if (met?.same !== undefined) {
      // The same inode under another name is as it was: so is this one, and its content is known.
      const entry = await before(met.same);
      if (entry?.type === 'file') return { kind: 'put', entry: { ...entry, path, link: entry.link ?? met.same } };
    }
    if (met === undefined) inodes.add(key, { link: path, same: undefined }, names);
    return { kind: 'read', file: pendingOf(at, source, path, names) };
  };

  for await (const batch of found) {
    const changes: Change[] = [];
    for (const at of batch) {
      const { path, state, piece, index } = at;
      if (state === STATE.gone) {
        changes.push({ kind: 'delete', path });
        continue;
      }
      const type = piece.words[index]! & TYPE_MASK;
      if (type === TYPE.directory) changes.push({ kind: 'put', entry: directoryOf(at) });
      else if (type === TYPE.symlink) changes.push({ kind: 'put', entry: symlinkOf(at) });
      else {
        const names = piece.words[piece.count * COLUMN.nlink + index]!;
        const change =
          names > 1 ? await linked(at, names) : ({ kind: 'read', file: pendingOf(at, source, undefined, 1) } as const);
        if (change !== undefined) changes.push(change);
      }
    }
    if (changes.length > 0) yield changes;
  }
}

function inodeOf({ piece, index }: Found): ByteString {
  const { words, count } = piece;
  const at = (column: number) => words[count * column + index]!;
  return `${at(COLUMN.inode)},${at(COLUMN.inode + 1)},${at(COLUMN.deviceMajor)},${at(COLUMN.deviceMinor)}` as ByteString;
}

function metadataOf({ path, piece, index }: Found) {
  const { words, count } = piece;
  return {
    path,
    mode: words[index]! & 0o7777,
    uid: words[count * COLUMN.uid + index]!,
    gid: words[count * COLUMN.gid + index]!,
    mtimeSeconds: signedWide(words, count * COLUMN.mtime + index, count),
    mtimeNanos: words[count * COLUMN.mtimeNanos + index]!,
  };
}

function directoryOf(found: Found): DirectoryEntry {
  const xattrs = found.xattrs?.map(({ name, value }) => ({ name, value: Buffer.from(value) }));
  return { type: 'directory', ...metadataOf(found), ...(xattrs !== undefined && { xattrs }) };
}

function symlinkOf(found: Found): SymlinkEntry {
  const target = found.piece.targets.get(found.index);
  if (target === undefined) throw new Error(`the target of '${textOf(found.path)}' was not read`);
  return { type: 'symlink', ...metadataOf(found), target };
}

function pendingOf(found: Found, source: ByteString, link: ByteString | undefined, names: number): PendingFile {
  const { words, count } = found.piece;
  const { index } = found;
  return {
    ...metadataOf(found),
    size: wide(words, count * COLUMN.size + index, count),
    from: joinPath(source, found.path),
    identity: {
      inode: wide(words, count * COLUMN.inode + index, count),
      ctimeSeconds: signedWide(words, count * COLUMN.ctime + index, count),
      ctimeNanos: words[count * COLUMN.ctimeNanos + index]!,
    },
    ...(link !== undefined && { link, names }),
  };
}
