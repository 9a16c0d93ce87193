import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { type ByteString, fromBuffer, textOf } from '../../dataset/byte-string.ts';
import { CorruptError } from '../../dataset/errors.ts';
import { crc32c } from './crc32c.ts';
import {
  BLOCK,
  BLOCK_BITS,
  CHUNK_HOLE,
  COMPACT,
  COMPACT_BYTES,
  COMPATIBLE_CHECKSUM,
  DIRENT,
  DIRENT_BYTES,
  DIRENT_TYPE,
  EXTENDED,
  EXTENDED_BYTES,
  INCOMPATIBLE_CHUNKED_FILE,
  INCOMPATIBLE_XATTR_PREFIXES,
  INODE,
  LAYOUT,
  MAGIC,
  MODE,
  roundUp,
  SB,
  SLOT,
  SUPERBLOCK_AT,
  SUPERBLOCK_BYTES,
  XATTR_ENTRY_BYTES,
  XATTR_HEADER,
  XATTR_HEADER_BYTES,
  XATTR_INDEX,
  XATTR_LONG_PREFIX,
} from './layout.ts';

export interface ImageHeader {
  readonly blocks: number;
  readonly inodes: number;
  readonly rootNid: number;
  readonly buildSeconds: number;
  readonly buildNanos: number;
  readonly volumeName: string;
  readonly uuid: string;
  /** Full names: `trusted.overlay.redirect`. */
  readonly prefixes: readonly string[];
}

export interface ImageNode {
  readonly path: ByteString;
  readonly nid: number;
  readonly type: 'file' | 'directory' | 'symlink';
  readonly compact: boolean;
  readonly layout: 'plain' | 'inline' | 'chunked';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanos: number;
  readonly links: number;
  /** Sorted by name. */
  readonly xattrs: readonly ImageXattr[];
  /** Of a file that is no hole, or a symlink's target. */
  readonly data?: Buffer;
}

export interface ImageXattr {
  readonly name: ByteString;
  readonly value: Buffer;
  readonly shared: boolean;
}

/** A piece of the image that something lies in, by offset and length: no two may overlap. */
interface Piece {
  readonly at: number;
  readonly length: number;
  readonly of: string;
}

interface Listed {
  readonly name: ByteString;
  readonly nid: number;
  readonly type: number;
}

const PREFIXES: Record<number, string> = {
  [XATTR_INDEX.user]: 'user.',
  [XATTR_INDEX.defaultAcl]: 'system.posix_acl_default',
  [XATTR_INDEX.trusted]: 'trusted.',
};
const DIRENT_TYPES = { file: DIRENT_TYPE.file, directory: DIRENT_TYPE.directory, symlink: DIRENT_TYPE.symlink };

/**
 * Reads an EROFS image whole, as the kernel would, and checks more than the kernel does: the checksum, every directory's order, `.` and
 * `..`, types and link counts, that pieces do not overlap, and that holes have no blocks. Yields every path in path order; a
 * file with several names comes with each. Throws CorruptError with what is wrong. For tests and for people: memory grows
 * with the image.
 */
export function* readImage(file: string): Generator<ImageNode, ImageHeader> {
  const fd = openSync(file, 'r');
  try {
    const reader = new ImageReader(fd);
    yield* reader.walk('' as ByteString, reader.header.rootNid, reader.header.rootNid);
    reader.checkWhole();
    return reader.header;
  } finally {
    closeSync(fd);
  }
}

/** The image's text form: a line for the superblock, then one for each path. */
export function dumpImage(file: string): string {
  const lines: string[] = [];
  const nodes = readImage(file);
  for (;;) {
    const next = nodes.next();
    if (next.done) return `${[headerLine(next.value), ...lines].join('\n')}\n`;
    lines.push(nodeLine(next.value));
  }
}

function headerLine(header: ImageHeader): string {
  const time = timeText(header.buildSeconds, header.buildNanos);
  return (
    `erofs blocks=${header.blocks} inodes=${header.inodes} root=${header.rootNid} built=${time} ` +
    `name=${header.volumeName} uuid=${header.uuid} prefixes=${header.prefixes.join(',')}`
  );
}

function nodeLine(node: ImageNode): string {
  const form = `${node.compact ? 'compact' : 'extended'},${node.layout}`;
  const fields = [
    `/${textOf(node.path)}`,
    `nid=${node.nid}`,
    form,
    node.type,
    node.mode.toString(8).padStart(4, '0'),
    `${node.uid}:${node.gid}`,
    `size=${node.size}`,
    `mtime=${timeText(node.mtimeSeconds, node.mtimeNanos)}`,
    `links=${node.links}`,
  ];
  for (const { name, value, shared } of node.xattrs) {
    fields.push(`${textOf(name)}=${JSON.stringify(textOf(fromBuffer(value)))}${shared ? '*' : ''}`);
  }
  if (node.data !== undefined && node.data.length > 0)
    fields.push(`data=${JSON.stringify(textOf(fromBuffer(node.data)))}`);
  return fields.join(' ');
}

function timeText(seconds: number, nanos: number): string {
  return `${seconds}+${String(nanos).padStart(9, '0')}`;
}

class ImageReader {
  readonly header: ImageHeader;
  readonly #fd: number;
  readonly #bytes: number;
  readonly #metaAt: number;
  readonly #xattrAt: number;
  readonly #pieces: Piece[] = [];
  readonly #names = new Map<number, { seen: number; links: number }>();
  readonly #sharedSeen = new Set<number>();

  constructor(fd: number) {
    this.#fd = fd;
    this.#bytes = fstatSync(fd).size;
    const block = this.#read(0, BLOCK, 'the first block');
    const sb = block.subarray(SUPERBLOCK_AT);
    if (sb.readUInt32LE(SB.magic) !== MAGIC) throw new CorruptError('this is no EROFS image');
    if (sb.readUInt8(SB.blockBits) !== BLOCK_BITS) throw new CorruptError('the block size is not 4096');
    if (!(sb.readUInt32LE(SB.compatible) & COMPATIBLE_CHECKSUM)) throw new CorruptError('there is no checksum');
    const checksum = sb.readUInt32LE(SB.checksum);
    sb.writeUInt32LE(0, SB.checksum);
    if (crc32c(sb) !== checksum) throw new CorruptError('the checksum of the first block is wrong');
    const unknown = sb.readUInt32LE(SB.incompatible) & ~(INCOMPATIBLE_CHUNKED_FILE | INCOMPATIBLE_XATTR_PREFIXES);
    if (unknown !== 0) throw new CorruptError(`unknown features: ${unknown.toString(16)}`);
    this.#metaAt = sb.readUInt32LE(SB.metaBlock) * BLOCK;
    this.#xattrAt = sb.readUInt32LE(SB.xattrBlock) * BLOCK;
    this.#piece(0, SUPERBLOCK_AT + SUPERBLOCK_BYTES, 'the superblock');
    this.header = {
      blocks: sb.readUInt32LE(SB.blocks),
      inodes: Number(sb.readBigUInt64LE(SB.inodes)),
      rootNid: sb.readUInt16LE(SB.rootNid),
      buildSeconds: Number(sb.readBigInt64LE(SB.buildTime)),
      buildNanos: sb.readUInt32LE(SB.buildNanos),
      uuid: sb.toString('hex', SB.uuid, SB.uuid + 16),
      volumeName: sb.toString('latin1', SB.volumeName, SB.volumeName + 16).replace(/\0.*$/s, ''),
      prefixes: this.#readPrefixes(sb.readUInt32LE(SB.prefixStart) * 4, sb.readUInt8(SB.prefixCount)),
    };
    if (this.header.blocks * BLOCK !== this.#bytes) {
      throw new CorruptError(`the image has ${this.#bytes} bytes, and should have ${this.header.blocks} blocks`);
    }
  }

  *walk(path: ByteString, nid: number, parentNid: number): Generator<ImageNode> {
    const { node, dataAt } = this.#inode(path, nid);
    if (node.type !== 'directory') {
      yield node;
      return;
    }
    yield node;
    const shown = `/${textOf(path)}`;
    const data = this.#data(node, dataAt);
    const listed = listDirectory(shown, data);
    const dots = { '.': nid, '..': parentNid } as Record<string, number>;
    let subdirectories = 0;
    for (const [index, { name, nid: child, type }] of listed.entries()) {
      const before = listed[index - 1]?.name;
      if (before !== undefined && before >= name) throw new CorruptError(`${shown}: '${textOf(name)}' is out of order`);
      const target = dots[name];
      if (target !== undefined) {
        if (child !== target || type !== DIRENT_TYPE.directory) throw new CorruptError(`${shown}: '${name}' is wrong`);
        delete dots[name];
        continue;
      }
      if (type === DIRENT_TYPE.directory) subdirectories += 1;
      yield* this.#child((path === '' ? name : `${path}/${name}`) as ByteString, child, nid, type);
    }
    if (Object.keys(dots).length > 0) throw new CorruptError(`${shown}: '.' or '..' is missing`);
    if (node.links !== subdirectories + 2) throw new CorruptError(`${shown}: its link count is ${node.links}`);
  }

  /** What only shows when all has been read. */
  checkWhole(): void {
    for (const [nid, { seen, links }] of this.#names) {
      if (seen !== links) throw new CorruptError(`inode ${nid} has ${seen} names, and says ${links}`);
    }
    if (this.#names.size !== this.header.inodes) {
      throw new CorruptError(`there are ${this.#names.size} inodes, and the superblock says ${this.header.inodes}`);
    }
    this.#pieces.sort((a, b) => a.at - b.at);
    for (const [index, piece] of this.#pieces.entries()) {
      const next = this.#pieces[index + 1];
      if (next !== undefined && piece.at + piece.length > next.at) {
        throw new CorruptError(`${piece.of} and ${next.of} overlap at byte ${next.at}`);
      }
      if (piece.at + piece.length > this.#bytes) throw new CorruptError(`${piece.of} ends behind the image's end`);
    }
  }

  *#child(path: ByteString, nid: number, parent: number, type: number): Generator<ImageNode> {
    let first = true;
    for (const node of this.walk(path, nid, parent)) {
      if (first && DIRENT_TYPES[node.type] !== type) {
        throw new CorruptError(`/${textOf(path)} is listed as type ${type}, and is a ${node.type}`);
      }
      first = false;
      yield node;
    }
  }

  #inode(path: ByteString, nid: number): { node: ImageNode; dataAt: number } {
    const of = `/${textOf(path)}`;
    const at = this.#metaAt + nid * SLOT;
    const compact = (this.#read(at, 2, of).readUInt16LE(INODE.format) & 1) === 0;
    const head = this.#read(at, compact ? COMPACT_BYTES : EXTENDED_BYTES, of);
    const layout = layoutOf(of, head.readUInt16LE(INODE.format) >> 1);
    const modeField = head.readUInt16LE(INODE.mode);
    const words = head.readUInt16LE(INODE.xattrWords);
    const xattrBytes = words === 0 ? 0 : XATTR_HEADER_BYTES + (words - 1) * 4;
    const where = head.readUInt32LE(INODE.where);
    const size = compact ? head.readUInt32LE(COMPACT.size) : Number(head.readBigUInt64LE(EXTENDED.size));
    const type = typeOf(of, modeField);
    const xattrsAt = at + head.length;
    const dataAt = layout === 'plain' ? where * BLOCK : xattrsAt + xattrBytes;
    const basic = {
      path,
      nid,
      type,
      compact,
      layout,
      mode: modeField & MODE.permissions,
      uid: compact ? head.readUInt16LE(COMPACT.uid) : head.readUInt32LE(EXTENDED.uid),
      gid: compact ? head.readUInt16LE(COMPACT.gid) : head.readUInt32LE(EXTENDED.gid),
      size,
      mtimeSeconds: compact ? this.header.buildSeconds : Number(head.readBigInt64LE(EXTENDED.mtime)),
      mtimeNanos: compact ? this.header.buildNanos : head.readUInt32LE(EXTENDED.mtimeNanos),
      links: compact ? head.readUInt16LE(COMPACT.links) : head.readUInt32LE(EXTENDED.links),
      xattrs: this.#xattrs(of, xattrsAt, xattrBytes),
    };
    const known = this.#names.get(nid);
    if (known !== undefined) {
      if (type === 'directory') throw new CorruptError(`${of} is a directory with two names`);
      known.seen += 1;
    } else {
      this.#names.set(nid, { seen: type === 'directory' ? basic.links : 1, links: basic.links });
      const behind = layout === 'plain' ? 0 : layout === 'inline' ? size : this.#checkHole(of, size, where, dataAt);
      this.#piece(at, head.length + xattrBytes + behind, of);
      if (layout === 'plain' && size > 0) this.#piece(dataAt, roundUp(size, BLOCK), `${of}'s data`);
      // The kernel copies inline data, and a fast symlink's target, from the one block in which they begin.
      if (layout === 'inline' && Math.floor(at / BLOCK) !== Math.floor((dataAt + size - 1) / BLOCK)) {
        throw new CorruptError(`${of}: its inline data crosses a block's border`);
      }
    }
    if (type === 'directory' || layout === 'chunked') return { node: basic, dataAt };
    return { node: { ...basic, data: this.#data(basic, dataAt) }, dataAt };
  }

  /** That every chunk is a hole. Returns the length of the chunk indexes. */
  #checkHole(of: string, size: number, format: number, at: number): number {
    const chunks = Math.ceil(size / 2 ** (BLOCK_BITS + (format & 0x1f)));
    const indexes = this.#read(at, chunks * 4, of);
    for (let chunk = 0; chunk < chunks; chunk += 1) {
      if (indexes.readUInt32LE(chunk * 4) !== CHUNK_HOLE) throw new CorruptError(`${of}: a chunk is no hole`);
    }
    return indexes.length;
  }

  #data(node: Omit<ImageNode, 'data'>, dataAt: number): Buffer {
    return this.#read(dataAt, node.size, `/${textOf(node.path)}`);
  }

  #xattrs(of: string, at: number, bytes: number): ImageXattr[] {
    if (bytes === 0) return [];
    const body = this.#read(at, bytes, of);
    const xattrs: ImageXattr[] = [];
    let position = XATTR_HEADER_BYTES;
    for (let left = body.readUInt8(XATTR_HEADER.sharedCount); left > 0; left -= 1, position += 4) {
      const sharedAt = this.#xattrAt + body.readUInt32LE(position) * 4;
      const length = entryLength(this.#read(sharedAt, XATTR_ENTRY_BYTES, of));
      if (!this.#sharedSeen.has(sharedAt)) {
        this.#sharedSeen.add(sharedAt);
        this.#piece(sharedAt, length, `a shared xattr of ${of}`);
      }
      xattrs.push({ ...this.#xattr(of, this.#read(sharedAt, length, of)), shared: true });
    }
    while (position < bytes) {
      const length = entryLength(body.subarray(position));
      xattrs.push({ ...this.#xattr(of, body.subarray(position, position + length)), shared: false });
      position += length;
    }
    if (position !== bytes) throw new CorruptError(`${of}: its xattrs end behind their room`);
    return xattrs.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  #xattr(of: string, entry: Buffer): { name: ByteString; value: Buffer } {
    const nameEnd = XATTR_ENTRY_BYTES + entry.readUInt8(0);
    const index = entry.readUInt8(1);
    const prefix = index & XATTR_LONG_PREFIX ? this.header.prefixes[index & ~XATTR_LONG_PREFIX] : PREFIXES[index];
    if (prefix === undefined) throw new CorruptError(`${of}: an xattr has the unknown name index ${index}`);
    const name = (prefix + entry.toString('latin1', XATTR_ENTRY_BYTES, nameEnd)) as ByteString;
    return { name, value: Buffer.from(entry.subarray(nameEnd, nameEnd + entry.readUInt16LE(2))) };
  }

  #readPrefixes(at: number, count: number): string[] {
    const prefixes: string[] = [];
    for (let index = 0, next = at; index < count; index += 1) {
      const length = this.#read(next, 2, 'the name prefixes').readUInt16LE(0);
      const prefix = this.#read(next + 2, length, 'the name prefixes');
      prefixes.push(`${PREFIXES[prefix.readUInt8(0)]}${prefix.toString('latin1', 1)}`);
      this.#piece(next, 2 + length, 'a name prefix');
      next += roundUp(2 + length, 4);
    }
    return prefixes;
  }

  #piece(at: number, length: number, of: string): void {
    if (length > 0) this.#pieces.push({ at, length, of });
  }

  #read(at: number, length: number, of: string): Buffer {
    if (at + length > this.#bytes) throw new CorruptError(`${of} lies behind the image's end`);
    const buffer = Buffer.alloc(length);
    let done = 0;
    while (done < length) {
      const got = readSync(this.#fd, buffer, done, length - done, at + done);
      if (got === 0) throw new CorruptError(`the image was cut off while it was read, at byte ${at + done}`);
      done += got;
    }
    return buffer;
  }
}

function listDirectory(of: string, data: Buffer): Listed[] {
  const listed: Listed[] = [];
  for (let start = 0; start < data.length; start += BLOCK) {
    const block = data.subarray(start, start + BLOCK);
    const count = block.readUInt16LE(DIRENT.nameOffset) / DIRENT_BYTES;
    if (count < 1 || count * DIRENT_BYTES > block.length) throw new CorruptError(`${of}: a block has ${count} entries`);
    for (let index = 0; index < count; index += 1) {
      const at = index * DIRENT_BYTES;
      const nameAt = block.readUInt16LE(at + DIRENT.nameOffset);
      const rest = block.subarray(nameAt);
      const zero = rest.indexOf(0);
      const last = zero < 0 ? block.length : nameAt + zero;
      const nameEnd = index + 1 < count ? block.readUInt16LE(at + DIRENT_BYTES + DIRENT.nameOffset) : last;
      const name = fromBuffer(block.subarray(nameAt, nameEnd));
      if (name === '' || name.includes('/') || name.includes('\0')) throw new CorruptError(`${of}: a name is wrong`);
      listed.push({ name, nid: Number(block.readBigUInt64LE(at)), type: block.readUInt8(at + DIRENT.type) });
    }
  }
  return listed;
}

function entryLength(entry: Buffer): number {
  return roundUp(XATTR_ENTRY_BYTES + entry.readUInt8(0) + entry.readUInt16LE(2), 4);
}

function layoutOf(of: string, value: number): ImageNode['layout'] {
  if (value === LAYOUT.plain) return 'plain';
  if (value === LAYOUT.inline) return 'inline';
  if (value === LAYOUT.chunked) return 'chunked';
  throw new CorruptError(`${of}: the data layout ${value} is unknown`);
}

function typeOf(of: string, mode: number): ImageNode['type'] {
  const type = mode & MODE.type;
  if (type === MODE.file) return 'file';
  if (type === MODE.directory) return 'directory';
  if (type === MODE.symlink) return 'symlink';
  throw new CorruptError(`${of}: the mode ${mode.toString(8)} is of no known type`);
}
