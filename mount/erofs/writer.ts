import assert from 'node:assert/strict';
import { type ByteString, textOf } from '../../dataset/byte-string.ts';
import type { DirectoryEntry, Entry, FileEntry, SymlinkEntry, Xattr } from '../../dataset/entry.ts';
import { CorruptError, InvalidError } from '../../dataset/errors.ts';
import { encodeOwner, OWNER_MARK } from '../owner-mark.ts';
import { DEFAULT_ACL, defaultAclBy, type Ownership, shownBy, type View, viewName } from '../view.ts';
import { DirectoryBlocks } from './directory.ts';
import { HardLinks } from './hard-links.ts';
import { inodeBytes, setUint64, writeInode } from './inode.ts';
import {
  BLOCK,
  BLOCK_BITS,
  CHUNK_BITS_MAX,
  CHUNK_HOLE,
  CHUNK_INDEX_BYTES,
  DIRENT_BYTES,
  DIRENT_TYPE,
  type DirentType,
  EXTENDED_BYTES,
  LAYOUT,
  type Layout,
  MODE,
  NAME_BYTES_MAX,
  roundUp,
  SLOT,
  SUPERBLOCK_AT,
  SUPERBLOCK_BYTES,
} from './layout.ts';
import { misplaced } from './misplaced.ts';
import type { Region, Space } from './space.ts';
import { NO_XATTRS, type XattrPlan, Xattrs } from './xattr.ts';

/**
 * Data lies behind its inode when both and the xattrs take no more than this: they may not cross a block's border, so more
 * would waste as much as a block of its own does.
 */
const INLINE_MAX = BLOCK / 2;
/** Of the entries `.` and `..`. */
const DOTS_BYTES = 2 * DIRENT_BYTES + 3;
const PENDING = -1;
const MODES = { file: MODE.file, directory: MODE.directory, symlink: MODE.symlink } as const;

interface Written {
  readonly rootNid: number;
  readonly inodes: number;
  /** In bytes: whole blocks. */
  readonly bytes: number;
  readonly buildSeconds: number;
  readonly buildNanos: number;
  readonly prefixesAt: number | undefined;
}

/** A directory whose entries are still coming. Reused for every directory of its depth. */
class OpenDirectory {
  readonly blocks = new DirectoryBlocks();
  entry!: DirectoryEntry;
  /** What the paths in it begin with. */
  prefix = '';
  nameAt = 0;
  /** Of its last entry. */
  lastPath = '';
  subdirectories = 0;
  xattrs: XattrPlan = NO_XATTRS;
  /** PENDING while it may still become small enough to lie behind its inode. */
  nid = PENDING;
  /** Of its inode, once it has one. */
  ordinal = 0;
  /** Where its closed subdirectories' `..` lie, while it is pending; bounded, since it is small then. */
  readonly childParents: number[] = [];
}

/**
 * Writes inodes, directories and xattrs in one pass over the entries. The place of everything is settled before it is written;
 * the few numbers that come later (a large directory's size, a small directory's inode in its subdirectories' `..`, link
 * counts) go into places that are known. Memory: the names in the open directories, one record for each hard-link group, and
 * a few extents.
 */
export class ImageWriter {
  readonly #space: Space;
  readonly #inodes: Region;
  readonly #blocks: Region;
  readonly #xattrs: Xattrs;
  readonly #links = new HardLinks();
  readonly #view: View | undefined;
  /** What the last entry was without the view, and the mark that tells it to whoever reads an upper layer. */
  #owner: Ownership | undefined;
  #ownerMark: Xattr | undefined;
  #marks: readonly Xattr[] = [];
  readonly #stack: OpenDirectory[] = [];
  #depth = 0;
  #top: OpenDirectory | undefined;
  #count = 0;
  #rootNid = 0;
  #hasBuildTime = false;
  #buildSeconds = 0;
  #buildNanos = 0;
  readonly #prefixesAt: number | undefined;
  readonly #patch = new DataView(new ArrayBuffer(EXTENDED_BYTES));
  readonly #patchBytes = new Uint8Array(this.#patch.buffer);

  constructor(space: Space, options: { xattrPrefixes: boolean; view?: View | undefined }) {
    this.#space = space;
    this.#view = viewName(options.view) === '' ? undefined : options.view;
    this.#inodes = space.region();
    this.#blocks = space.region();
    this.#xattrs = new Xattrs(space.region(), options.xattrPrefixes);
    const at = this.#inodes.reserve(SUPERBLOCK_AT + SUPERBLOCK_BYTES, BLOCK);
    assert.equal(this.#inodes.start + at, 0, 'the superblock is at the beginning');
    this.#prefixesAt = this.#xattrs.begin(this.#inodes);
  }

  /** Takes the next entry in path order. Throws CorruptError when it is out of place, InvalidError when an image cannot hold it. */
  add(entry: Entry): void {
    const path = entry.path;
    let parent = this.#top;
    if (parent === undefined) {
      if (this.#count > 0 || path !== '' || entry.type !== 'directory') throw misplaced(path, undefined);
      this.#openRoot(entry);
      return;
    }
    while (path.length <= parent.prefix.length || !path.startsWith(parent.prefix)) {
      if (this.#depth === 1) throw misplaced(path, parent);
      parent = this.#closeTop();
    }
    const nameAt = parent.prefix.length;
    if (path.indexOf('/', nameAt) >= 0) throw misplaced(path, parent);
    // Paths in one directory sort as their names do.
    if (path <= parent.lastPath || isDots(path, nameAt)) throw misplaced(path, parent);
    const nameBytes = path.length - nameAt;
    if (nameBytes > NAME_BYTES_MAX) {
      throw new InvalidError(`${textOf(path)}: its name has ${nameBytes} bytes; Linux allows ${NAME_BYTES_MAX}`);
    }
    parent.lastPath = path;
    checkNumbers(entry);
    const viewed = this.#viewed(entry);
    if (viewed.type === 'file') this.#list(parent, path, nameAt, this.#file(viewed), DIRENT_TYPE.file);
    else if (viewed.type === 'directory') this.#open(viewed, nameAt);
    else this.#list(parent, path, nameAt, this.#symlink(viewed), DIRENT_TYPE.symlink);
  }

  /** The entry as the view shows it; what it was is noted for its marks. */
  #viewed<Kind extends Entry>(entry: Kind): Kind {
    if (this.#view === undefined) return entry;
    const { mode, uid, gid } = entry;
    const last = this.#owner;
    if (last === undefined || last.mode !== mode || last.uid !== uid || last.gid !== gid) {
      this.#owner = { mode, uid, gid };
      this.#ownerMark = { name: OWNER_MARK, value: encodeOwner(this.#owner) };
    }
    const acl = defaultAclBy(this.#view, entry.type);
    this.#marks = acl === undefined ? [this.#ownerMark!] : [this.#ownerMark!, { name: DEFAULT_ACL, value: acl }];
    return { ...entry, ...shownBy(this.#view, entry.type, entry) };
  }

  /** Closes all directories and writes everything but the superblock's fields. */
  finish(): Written {
    while (this.#depth > 0) this.#closeTop();
    if (this.#count === 0) throw new CorruptError('there are no entries, not even a root directory');
    const bytes = this.#space.finish();
    this.#links.finish(this.#space);
    return {
      rootNid: this.#rootNid,
      inodes: this.#count,
      bytes,
      buildSeconds: this.#buildSeconds,
      buildNanos: this.#buildNanos,
      prefixesAt: this.#prefixesAt,
    };
  }

  #file(entry: FileEntry): number {
    if (!this.#hasBuildTime && entry.mtimeSeconds >= 0) this.#setBuildTime(entry);
    const { content, link } = entry;
    if (link !== undefined) {
      const nid = this.#links.join(entry, link);
      if (nid !== undefined) return nid;
    }
    const compact = link === undefined && this.#fitsCompact(entry, entry.size, 1);
    let nid: number;
    if (content.kind === 'inline') {
      if (content.bytes.length !== entry.size) throw wrongSize(entry, content.bytes.length);
      nid = this.#withData(entry, compact, content.bytes);
    } else if (entry.size === 0) {
      nid = this.#withData(entry, compact, undefined);
    } else {
      nid = this.#withoutData(entry, compact, content.id);
    }
    if (link !== undefined) this.#links.found(entry, link, nid);
    return nid;
  }

  #symlink(entry: SymlinkEntry): number {
    const target = Buffer.from(entry.target, 'latin1');
    if (target.length === 0 || target.length >= BLOCK || target.includes(0)) {
      throw new InvalidError(
        `${textOf(entry.path)}: its target is not one of 1 to ${BLOCK - 1} bytes without NUL; remove the link`,
      );
    }
    return this.#withData(entry, this.#fitsCompact(entry, target.length, 1), target);
  }

  /** A file whose data overlayfs finds by the redirect: one hole as long as the file, so that its size stands. */
  #withoutData(entry: FileEntry, compact: boolean, id: string): number {
    if (id.length !== 64) throw new CorruptError(`${textOf(entry.path)}: its content id is not a digest: ${id}`);
    const { size } = entry;
    const chunkBits = Math.min(CHUNK_BITS_MAX, Math.max(0, bitsFor(size) - BLOCK_BITS));
    const chunks = Math.ceil(size / 2 ** (BLOCK_BITS + chunkBits));
    const xattrs = this.#xattrs.plan(entry, true, this.#marks);
    const length = inodeBytes(compact) + xattrs.bytes + chunks * CHUNK_INDEX_BYTES;
    const region = this.#inodes;
    const at = region.reserve(length, SLOT);
    const xattrsAt = this.#inode(at, entry, compact, LAYOUT.chunked, size, 1, xattrs.bytes, chunkBits);
    let end = this.#xattrs.write(region, xattrsAt, xattrs, id);
    for (let chunk = 0; chunk < chunks; chunk += 1) {
      region.view.setUint32(end, CHUNK_HOLE, true);
      end += CHUNK_INDEX_BYTES;
    }
    agree(end, at + length);
    return (region.start + at) / SLOT;
  }

  /** A file or symlink with its data, which lies behind the inode when it is short. */
  #withData(entry: FileEntry | SymlinkEntry, compact: boolean, data: Buffer | undefined): number {
    const size = data?.length ?? 0;
    const xattrs = this.#xattrs.plan(entry, false, this.#marks);
    const head = inodeBytes(compact) + xattrs.bytes;
    const region = this.#inodes;
    if (size === 0 || head + size > INLINE_MAX) {
      const where = size === 0 ? 0 : this.#blocks.appendBlocks(data!, size) / BLOCK;
      const at = region.reserve(head, SLOT);
      const xattrsAt = this.#inode(at, entry, compact, LAYOUT.plain, size, 1, xattrs.bytes, where);
      agree(this.#xattrs.write(region, xattrsAt, xattrs, undefined), at + head);
      return (region.start + at) / SLOT;
    }
    const at = region.reserveInBlock(head + size, SLOT);
    const xattrsAt = this.#inode(at, entry, compact, LAYOUT.inline, size, 1, xattrs.bytes, 0);
    const end = this.#xattrs.write(region, xattrsAt, xattrs, undefined);
    region.bytes.set(data!, end);
    agree(end + size, at + head + size);
    return (region.start + at) / SLOT;
  }

  #list(parent: OpenDirectory, path: ByteString, nameAt: number, nid: number, type: DirentType): void {
    const { blocks } = parent;
    if (!blocks.add(path, nameAt, nid, type)) {
      throw new CorruptError(`${textOf(path)}: its name has a NUL, or characters that are not bytes`);
    }
    if (parent.nid === PENDING) this.#placeIfLarge(parent);
  }

  #openRoot(entry: DirectoryEntry): void {
    checkNumbers(entry);
    this.#open(this.#viewed(entry), 0);
    // The superblock has 16 bits for the root's number, so the root comes first, and its entries in blocks.
    if (this.#top!.nid === PENDING) this.#place(this.#top!);
    this.#rootNid = this.#top!.nid;
    assert.ok(this.#rootNid <= 0xffff, 'the root is in the first 2 MiB');
  }

  #open(entry: DirectoryEntry, nameAt: number): void {
    const directory = this.#stack[this.#depth] ?? new OpenDirectory();
    this.#stack[this.#depth] = directory;
    directory.entry = entry;
    directory.prefix = entry.path === '' ? '' : `${entry.path}/`;
    directory.nameAt = nameAt;
    directory.lastPath = '';
    directory.subdirectories = 0;
    directory.xattrs = this.#xattrs.plan(entry, false, this.#marks);
    directory.nid = PENDING;
    directory.childParents.length = 0;
    directory.blocks.clear();
    this.#depth += 1;
    this.#top = directory;
    this.#placeIfLarge(directory);
  }

  #placeIfLarge(directory: OpenDirectory): void {
    const length = EXTENDED_BYTES + directory.xattrs.bytes + directory.blocks.size + DOTS_BYTES;
    if (length > INLINE_MAX) this.#place(directory);
  }

  /** Gives a directory its inode before its entries are known: they will lie in blocks. */
  #place(directory: OpenDirectory): void {
    const length = EXTENDED_BYTES + directory.xattrs.bytes;
    const at = this.#inodes.reserve(length, SLOT);
    const end = this.#xattrs.write(this.#inodes, at + EXTENDED_BYTES, directory.xattrs, undefined);
    agree(end, at + length);
    this.#count += 1;
    directory.ordinal = this.#count;
    this.#settle(directory, (this.#inodes.start + at) / SLOT);
  }

  /** The directory's number is known: its closed subdirectories learn their parent. */
  #settle(directory: OpenDirectory, nid: number): void {
    directory.nid = nid;
    for (const at of directory.childParents) {
      setUint64(this.#patch, 0, nid);
      this.#space.patch(at, this.#patchBytes.subarray(0, 8));
    }
    directory.childParents.length = 0;
  }

  /** Writes the innermost directory, and lists it in its parent. Returns the parent. */
  #closeTop(): OpenDirectory {
    const directory = this.#top!;
    const parent = this.#stack[this.#depth - 2];
    const { blocks, entry } = directory;
    blocks.finish();
    // A parent still pending fills in its number later.
    blocks.setNid(blocks.parentAt, Math.max(0, (parent ?? directory).nid));
    const parentAt = directory.nid === PENDING ? this.#closeSmall(directory) : this.#closeLarge(directory);
    this.#depth -= 1;
    this.#top = parent;
    if (parent === undefined) return directory;
    parent.subdirectories += 1;
    if (parent.nid === PENDING) parent.childParents.push(parentAt);
    this.#list(parent, entry.path, directory.nameAt, directory.nid, DIRENT_TYPE.directory);
    return parent;
  }

  /** Entries behind the inode. Returns where its `..` lies. */
  #closeSmall(directory: OpenDirectory): number {
    const { blocks, entry, xattrs } = directory;
    const { size } = blocks;
    const links = directory.subdirectories + 2;
    const compact = this.#fitsCompact(entry, size, links);
    const length = inodeBytes(compact) + xattrs.bytes + size;
    const region = this.#inodes;
    const at = region.reserveInBlock(length, SLOT);
    const nid = (region.start + at) / SLOT;
    const xattrsAt = this.#inode(at, entry, compact, LAYOUT.inline, size, links, xattrs.bytes, 0);
    const end = this.#xattrs.write(region, xattrsAt, xattrs, undefined);
    blocks.setNid(blocks.selfAt, nid);
    blocks.data.copy(region.bytes, end, 0, size);
    agree(end + size, at + length);
    this.#settle(directory, nid);
    return region.start + end + blocks.parentAt;
  }

  /** Entries in blocks. Returns where its `..` lies. */
  #closeLarge(directory: OpenDirectory): number {
    const { blocks, entry, xattrs, nid } = directory;
    const { size } = blocks;
    blocks.setNid(blocks.selfAt, nid);
    const where = this.#blocks.appendBlocks(blocks.data, roundUp(size, BLOCK));
    this.#patchBytes.fill(0);
    writeInode(
      this.#patch,
      0,
      inodeFields(entry, false, LAYOUT.plain),
      size,
      directory.subdirectories + 2,
      xattrs.bytes,
      where / BLOCK,
      directory.ordinal,
    );
    this.#space.patch(nid * SLOT, this.#patchBytes);
    return where + blocks.parentAt;
  }

  #inode(
    at: number,
    entry: Entry,
    compact: boolean,
    layout: Layout,
    size: number,
    links: number,
    xattrBytes: number,
    where: number,
  ): number {
    this.#count += 1;
    const fields = inodeFields(entry, compact, layout);
    return writeInode(this.#inodes.view, at, fields, size, links, xattrBytes, where, this.#count);
  }

  #fitsCompact(entry: Entry, size: number, links: number): boolean {
    return (
      this.#hasBuildTime &&
      entry.mtimeSeconds === this.#buildSeconds &&
      entry.mtimeNanos === this.#buildNanos &&
      entry.uid <= 0xffff &&
      entry.gid <= 0xffff &&
      size <= 0xffffffff &&
      links <= 0xffff
    );
  }

  /** Compact inodes have the image's build time as their mtime: the first file's, which in many datasets is that of all. */
  #setBuildTime(entry: FileEntry): void {
    this.#hasBuildTime = true;
    this.#buildSeconds = entry.mtimeSeconds;
    this.#buildNanos = entry.mtimeNanos;
  }
}

function inodeFields(entry: Entry, compact: boolean, layout: Layout) {
  return {
    compact,
    layout,
    mode: entry.mode | MODES[entry.type],
    uid: entry.uid,
    gid: entry.gid,
    mtimeSeconds: entry.mtimeSeconds,
    mtimeNanos: entry.mtimeNanos,
  };
}

function isDots(path: string, nameAt: number): boolean {
  if (path.charCodeAt(nameAt) !== 0x2e) return false;
  const name = path.slice(nameAt);
  return name === '.' || name === '..';
}

/** The least n with 2^n at or above `size`. */
function bitsFor(size: number): number {
  if (size <= 2 ** 31) return size <= 1 ? 0 : 32 - Math.clz32(size - 1);
  return 32 + bitsFor(Math.ceil(size / 2 ** 32));
}

function checkNumbers(entry: Entry): void {
  const { mode, uid, gid, mtimeNanos, mtimeSeconds } = entry;
  const right =
    (mode & MODE.permissions) === mode &&
    uid >>> 0 === uid &&
    gid >>> 0 === gid &&
    mtimeNanos >= 0 &&
    mtimeNanos < 1e9 &&
    Number.isSafeInteger(mtimeSeconds) &&
    (entry.type !== 'file' || (Number.isSafeInteger(entry.size) && entry.size >= 0));
  if (!right) {
    throw new CorruptError(`${textOf(entry.path)}: its mode, owner, time or size is out of range`, {
      facts: { path: textOf(entry.path), mode, uid, gid, mtimeSeconds, mtimeNanos },
    });
  }
}

function wrongSize(entry: FileEntry, bytes: number): CorruptError {
  return new CorruptError(`${textOf(entry.path)}: it is said to have ${entry.size} bytes, and has ${bytes}`);
}

/** That what was written ends where the plan says: a fault here would corrupt what follows. */
function agree(end: number, planned: number): void {
  if (end !== planned) assert.equal(end, planned, 'the bytes end where they were planned to');
}
