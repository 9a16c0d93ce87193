import { setImmediate as turn } from 'node:timers/promises';
import { type ByteString, textOf } from '../dataset/byte-string.ts';
import type { Change, PendingFile } from '../dataset/commit.ts';
import type { Content, DirectoryEntry, Entry, FileEntry, Xattr } from '../dataset/entry.ts';
import { CorruptError } from '../dataset/errors.ts';
import { joinPath, nameOf, pathFault } from '../dataset/path.ts';
import { type BaseTree, SubtreeCursor } from './base-tree.ts';
import { type UpperFile, UpperReader } from './upper-file.ts';

export interface UpperOptions {
  /** The absolute path of the upper directory, which nobody writes to: of an unmounted workspace or of a clone. */
  readonly upper: ByteString;
  /** Somebody writes to it after all: what goes before it is looked at was never there, and what comes may be missed. */
  readonly live?: boolean;
  readonly base: BaseTree;
  /** The content of a file with data, if it is known by what its inode tells: then it is not read. */
  readonly known?: (file: UpperFile) => Content | undefined;
  /** Told of each name in the upper layer, in path order, before what follows from it. */
  readonly onSeen?: (seen: SeenName) => void;
  /** A device, socket or FIFO, which no version holds. */
  readonly onSkip?: (path: ByteString, kind: 'device' | 'socket' | 'fifo') => void;
  readonly signal?: AbortSignal;
}

/** A name in the upper layer. */
export interface SeenName {
  readonly path: ByteString;
  /** The last component; the root's is empty. */
  readonly name: ByteString;
  /** The inode of its directory; undefined for the root. */
  readonly parent: bigint | undefined;
  readonly file: UpperFile;
  /** Of a directory: the version's directory that shows through it. */
  readonly base?: ByteString;
  /** Of a file: what `known` gave. */
  readonly content?: Content;
}

/** A directory in which a walk of a part begins. */
export interface UpperPlace {
  readonly path: ByteString;
  readonly inode: bigint;
  /** The version's directory that shows through it. */
  readonly base: ByteString | undefined;
}

const BATCH = 256;

/**
 * The changes that a workspace's upper layer makes to its version, in path order. Only what was changed is looked at, and no data
 * is read: files with data come as `read`; files of which only mode, owner, times or attributes changed, and all that lies in a
 * renamed directory, come as `put` with the content that the version has.
 *
 * Attributes of overlayfs's upper layer (kernel: Documentation/filesystems/overlayfs.rst): a whiteout is a character device 0:0;
 * `trusted.overlay.opaque` = `y` on a directory hides the version's directory; `trusted.overlay.redirect` tells where a renamed
 * directory, or a renamed file with `trusted.overlay.metacopy`, was; `trusted.overlay.metacopy` marks a file without data.
 */
export async function* upperChanges(options: UpperOptions): AsyncGenerator<Change[]> {
  const { signal } = options;
  using reader = new UpperReader(options.upper, options.live);
  const walk = new Walk(options, reader);
  await walk.start();
  yield* allOf(walk, signal);
}

/**
 * The changes at one name of an upper layer and below it, to a tree that shows at this name what the version shows through `place` there,
 * or, `anew`, something of which nothing stays.
 */
export async function* changesAt(
  options: UpperOptions,
  reader: UpperReader,
  at: { readonly place: UpperPlace; readonly name: ByteString; readonly file: UpperFile; readonly anew: boolean },
): AsyncGenerator<Change[]> {
  const walk = new Walk(options, reader);
  await walk.startAt(at);
  yield* allOf(walk, options.signal);
}

async function* allOf(walk: Walk, signal: AbortSignal | undefined): AsyncGenerator<Change[]> {
  try {
    for (let more = true; more; ) {
      signal?.throwIfAborted();
      more = await walk.step();
      if (walk.changes.length >= BATCH || (!more && walk.changes.length > 0)) yield walk.changes.splice(0);
      // The file calls of a step block; whoever else needs the event loop gets it here.
      await turn();
    }
  } finally {
    await walk.end();
  }
}

/** A directory of the workspace that has a directory in the upper layer. */
interface Frame {
  readonly path: ByteString;
  readonly inode: bigint;
  /** The version's directory that shows through it; undefined where none does. */
  readonly base: ByteString | undefined;
  /** The version has nothing (more) at `path`: what shows through must be put there. */
  readonly cleared: boolean;
  /** The version's entries below `base`, where they must be put. */
  readonly cursor: SubtreeCursor | undefined;
  readonly ownsCursor: boolean;
  readonly names: readonly ByteString[];
  next: number;
}

/** Entries looked at in one step. */
const STEP = 128;

class Walk {
  readonly changes: Change[] = [];
  readonly #base: BaseTree;
  readonly #reader: UpperReader;
  readonly #known: UpperOptions['known'];
  readonly #onSeen: UpperOptions['onSeen'];
  readonly #onSkip: UpperOptions['onSkip'];
  readonly #frames: Frame[] = [];
  /** Inode in the upper layer to hard-link group. */
  readonly #groups = new Map<bigint, ByteString>();
  /** Names that another group has. */
  #taken: Set<ByteString> | undefined;

  constructor({ base, known, onSeen, onSkip }: UpperOptions, reader: UpperReader) {
    this.#base = base;
    this.#known = known;
    this.#onSeen = onSeen;
    this.#onSkip = onSkip;
    this.#reader = reader;
  }

  async start(): Promise<void> {
    await this.#directory('' as ByteString, this.#reader.examine('' as ByteString), undefined);
  }

  async startAt({ place, name, file, anew }: Parameters<typeof changesAt>[2]): Promise<void> {
    const frame = { ...place, cleared: false, cursor: undefined, ownsCursor: false, names: [], next: 0 };
    await this.#examined(frame, name, file, anew);
  }

  /** Goes on; false at the end. */
  async step(): Promise<boolean> {
    for (let count = 0; count < STEP && this.changes.length < BATCH; count += 1) {
      const frame = this.#frames.at(-1);
      if (frame === undefined) return false;
      const name = frame.names[frame.next];
      const shown = await this.#shownBefore(frame, name);
      if (shown === 'more') continue;
      if (name === undefined) {
        this.#frames.pop();
        if (frame.ownsCursor) await frame.cursor![Symbol.asyncDispose]();
        continue;
      }
      frame.next += 1;
      await this.#entry(frame, name);
    }
    return true;
  }

  async end(): Promise<void> {
    for (const frame of this.#frames) if (frame.ownsCursor) await frame.cursor![Symbol.asyncDispose]();
  }

  /**
   * Puts one of the version's entries that shows through a moved directory and comes before `name`: `more` when it did, `none` when
   * the turn is `name`'s.
   */
  async #shownBefore(frame: Frame, name: ByteString | undefined): Promise<'more' | 'none'> {
    const entry = await frame.cursor?.peek();
    if (entry === undefined || !isBelow(entry.path, frame.base!)) return 'none';
    const relative = relativeTo(entry.path, frame.base!);
    const slash = relative.indexOf('/');
    const first = slash < 0 ? relative : relative.slice(0, slash);
    if (name !== undefined && first >= name) {
      // What the upper layer replaces or merges is consumed when its name is reached: see `#entry`.
      return 'none';
    }
    frame.cursor!.advance();
    this.changes.push({ kind: 'put', entry: { ...entry, path: joinPath(frame.path, relative) } });
    return 'more';
  }

  async #entry(frame: Frame, name: ByteString): Promise<void> {
    const file = this.#reader.look(joinPath(frame.path, name));
    if (file !== undefined) await this.#examined(frame, name, file);
  }

  async #examined(frame: Frame, name: ByteString, file: UpperFile, anew = false): Promise<void> {
    const path = joinPath(frame.path, name);
    if (file.kind === 'directory') return this.#directory(path, file, frame, anew);
    if (file.kind !== 'file') this.#onSeen?.({ path, name, parent: frame.inode, file });
    await this.#skipShown(frame, name);
    if (file.kind === 'whiteout') {
      if (!frame.cleared) this.changes.push({ kind: 'delete', path });
      return;
    }
    if (file.kind === 'file') return this.#file(path, file, frame, name);
    if (file.kind === 'symlink') {
      const target = this.#reader.linkTarget(path);
      if (target === undefined) return;
      this.changes.push({ kind: 'put', entry: { type: 'symlink', path, ...metadataOf(file), target } });
      return;
    }
    this.#onSkip?.(path, file.kind);
    if (!frame.cleared) this.changes.push({ kind: 'delete', path });
  }

  async #file(path: ByteString, file: UpperFile, frame: Frame, name: ByteString): Promise<void> {
    const { status } = file;
    const content = file.metacopy ? undefined : this.#known?.(file);
    this.#onSeen?.({ path, name, parent: frame.inode, file, content });
    const link = status.nlink > 1n ? await this.#groupOf(status.ino, path) : undefined;
    if (file.metacopy) {
      const from = originOf(file, frame, name, path);
      const below = from === undefined ? undefined : await this.#base.find(from);
      if (below?.type !== 'file' || BigInt(below.size) !== status.size) throw noData(path, from);
      const entry: FileEntry = { type: 'file', path, ...metadataOf(file), size: below.size, content: below.content };
      this.changes.push({ kind: 'put', entry: link === undefined ? entry : { ...entry, link } });
      return;
    }
    if (content !== undefined) {
      const entry: FileEntry = { type: 'file', path, ...metadataOf(file), size: Number(status.size), content };
      this.changes.push({ kind: 'put', entry: link === undefined ? entry : { ...entry, link } });
      return;
    }
    // Its attributes are read with its data.
    const { xattrs: _, ...metadata } = metadataOf(file);
    const { owner } = file;
    const isSeen = BigInt(owner.mode) === (status.mode & 0o7777n) && BigInt(owner.uid) === status.uid;
    const [ctimeSeconds, ctimeNanos] = split(status.ctimeNs);
    const pending: PendingFile = {
      path,
      ...metadata,
      size: Number(status.size),
      from: this.#reader.absolute(path),
      identity: { inode: Number(status.ino), ctimeSeconds, ctimeNanos },
      ...(!(isSeen && BigInt(owner.gid) === status.gid) && { owner }),
    };
    this.changes.push({ kind: 'read', file: link === undefined ? pending : { ...pending, link } });
  }

  async #directory(path: ByteString, file: UpperFile, parent: Frame | undefined, anew = false): Promise<void> {
    const name = nameOf(path);
    const below = await shownThrough(this.#base, file, parent, path);
    const base = below?.path;
    this.#onSeen?.({ path, name, parent: parent?.inode, file, base });
    // What shows through the parent shows at its place already; so does what shows through this one under the same name.
    const stays = base !== undefined && parent?.base !== undefined && base === joinPath(parent.base, name);
    const cleared = parent !== undefined && (parent.cleared || anew || !stays);
    const entry: DirectoryEntry = { type: 'directory', path, ...metadataOf(file) };
    if (!cleared) {
      if (below === undefined || !sameMetadata(entry, below)) this.changes.push({ kind: 'put', entry });
    } else {
      if (parent?.cleared === false) this.changes.push({ kind: 'delete', path });
      this.changes.push({ kind: 'put', entry });
    }
    const cursor = await this.#cursorFor(parent, name, base, cleared);
    const inode = file.status.ino;
    this.#frames.push({ path, inode, base, cleared, ...cursor, names: this.#reader.list(path), next: 0 });
  }

  /** The version's entries that show through a directory: the parent's cursor goes on where it merges by name. */
  async #cursorFor(parent: Frame | undefined, name: ByteString, base: ByteString | undefined, cleared: boolean) {
    if (parent?.cursor && base !== undefined && base === joinPath(parent.base!, name)) {
      const entry = await parent.cursor.peek();
      if (entry?.path === base) {
        parent.cursor.advance();
        return { cursor: parent.cursor, ownsCursor: false };
      }
    }
    if (parent) await this.#skipShown(parent, name);
    if (!cleared || base === undefined) return { cursor: undefined, ownsCursor: false };
    const cursor = new SubtreeCursor(this.#base, base);
    if ((await cursor.peek())?.path === base) cursor.advance();
    return { cursor, ownsCursor: true };
  }

  /** Passes over what the version has at `name` and below: the upper layer hides it. */
  async #skipShown(frame: Frame, name: ByteString): Promise<void> {
    if (!frame.cursor) return;
    const hidden = joinPath(frame.base!, name);
    for (let entry = await frame.cursor.peek(); entry !== undefined; entry = await frame.cursor.peek()) {
      if (entry.path !== hidden && !isBelow(entry.path, hidden)) return;
      frame.cursor.advance();
    }
  }

  /** The group's name is its first path, unless the version has a group of that name, whose other members may remain. */
  async #groupOf(inode: bigint, path: ByteString): Promise<ByteString> {
    const known = this.#groups.get(inode);
    if (known !== undefined) return known;
    this.#taken ??= new Set(await this.#base.linkGroups());
    let name = path;
    for (let count = 2; this.#taken.has(name); count += 1) {
      // Still a valid path: a component may hold 255 bytes.
      const cut = path.length - Math.max(0, nameOf(path).length - 240);
      name = `${path.slice(0, cut)}#${count}` as ByteString;
    }
    this.#taken.add(name);
    this.#groups.set(inode, name);
    return name;
  }
}

/** The version's directory that shows through a directory of the upper layer; undefined where none does. */
export async function shownThrough(
  base: BaseTree,
  file: UpperFile,
  parent: Pick<UpperPlace, 'base'> | undefined,
  path: ByteString,
): Promise<DirectoryEntry | undefined> {
  let from: ByteString | undefined;
  if (parent === undefined) from = path;
  else if (!file.opaque) from = originOf(file, parent, nameOf(path), path);
  const below = from === undefined ? undefined : await base.find(from);
  return below?.type === 'directory' ? below : undefined;
}

/** Where the version has what shows through a directory, or a file's data, of the upper layer. */
function originOf(
  file: UpperFile,
  parent: Pick<UpperPlace, 'base'>,
  name: ByteString,
  path: ByteString,
): ByteString | undefined {
  const { redirect } = file;
  if (redirect === undefined) return parent.base === undefined ? undefined : joinPath(parent.base, name);
  const absolute = redirect.startsWith('/');
  const target = (absolute ? redirect.slice(1) : redirect) as ByteString;
  if (target === '' || pathFault(target) !== undefined || (!absolute && target.includes('/'))) {
    throw new CorruptError(`the workspace's upper layer has the redirect '${textOf(redirect)}' at '${textOf(path)}'`, {
      facts: { path: textOf(path) },
    });
  }
  if (absolute) return target;
  return parent.base === undefined ? undefined : joinPath(parent.base, target);
}

function noData(path: ByteString, from: ByteString | undefined): CorruptError {
  const where = from === undefined ? 'nothing' : `'${textOf(from)}'`;
  return new CorruptError(
    `the data of '${textOf(path)}' should be those of ${where} in the version below, which has no such file: was the workspace mounted on another version?`,
    { facts: { path: textOf(path) } },
  );
}

/** Mode, owner, times and attributes, as an entry has them. */
export function metadataOf({ status, owner, xattrs }: UpperFile): Omit<DirectoryEntry, 'type' | 'path'> {
  const [mtimeSeconds, mtimeNanos] = split(status.mtimeNs);
  const metadata = {
    ...owner,
    mtimeSeconds,
    mtimeNanos,
  };
  return xattrs === undefined ? metadata : { ...metadata, xattrs };
}

/** Whole seconds and 0 to 999,999,999 nanoseconds, also before 1970. */
function split(nanoseconds: bigint): [seconds: number, nanos: number] {
  const nanos = BigInt.asUintN(64, ((nanoseconds % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n);
  return [Number((nanoseconds - nanos) / 1_000_000_000n), Number(nanos)];
}

function sameMetadata(a: Entry, b: Entry): boolean {
  return (
    a.mode === b.mode &&
    a.uid === b.uid &&
    a.gid === b.gid &&
    a.mtimeSeconds === b.mtimeSeconds &&
    a.mtimeNanos === b.mtimeNanos &&
    sameXattrs(a.xattrs ?? [], b.xattrs ?? [])
  );
}

function sameXattrs(a: readonly Xattr[], b: readonly Xattr[]): boolean {
  return a.length === b.length && a.every(({ name, value }, i) => name === b[i]!.name && value.equals(b[i]!.value));
}

/** Strictly below. */
function isBelow(path: ByteString, directory: ByteString): boolean {
  if (directory === '') return path !== '';
  return path.length > directory.length && path.startsWith(directory) && path.charCodeAt(directory.length) === 0x2f;
}

function relativeTo(path: ByteString, directory: ByteString): ByteString {
  return (directory === '' ? path : path.slice(directory.length + 1)) as ByteString;
}
