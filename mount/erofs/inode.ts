import {
  COMPACT,
  COMPACT_BYTES,
  EXTENDED,
  EXTENDED_BYTES,
  INODE,
  type Layout,
  TWO_32,
  XATTR_HEADER_BYTES,
} from './layout.ts';

/** What an inode says of its file, besides xattrs and data. */
export interface InodeFields {
  readonly compact: boolean;
  readonly layout: Layout;
  /** Type and permissions. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanos: number;
}

export function inodeBytes(compact: boolean): number {
  return compact ? COMPACT_BYTES : EXTENDED_BYTES;
}

/**
 * Writes an inode at `at` of `view`, over zeros. Returns where its xattrs begin.
 * `where` is the first block of its data, or its chunk format; `ordinal` stands in for the inode number on 32-bit systems.
 */
export function writeInode(
  view: DataView,
  at: number,
  fields: InodeFields,
  size: number,
  links: number,
  xattrBytes: number,
  where: number,
  ordinal: number,
): number {
  view.setUint16(at + INODE.format, (fields.layout << 1) | (fields.compact ? 0 : 1), true);
  view.setUint16(at + INODE.xattrWords, xattrBytes === 0 ? 0 : (xattrBytes - XATTR_HEADER_BYTES) / 4 + 1, true);
  view.setUint16(at + INODE.mode, fields.mode, true);
  view.setUint32(at + INODE.where, where, true);
  view.setUint32(at + INODE.ordinal, ordinal, true);
  if (fields.compact) {
    view.setUint16(at + COMPACT.links, links, true);
    view.setUint32(at + COMPACT.size, size, true);
    view.setUint16(at + COMPACT.uid, fields.uid, true);
    view.setUint16(at + COMPACT.gid, fields.gid, true);
    return at + COMPACT_BYTES;
  }
  setUint64(view, at + EXTENDED.size, size);
  view.setUint32(at + EXTENDED.uid, fields.uid, true);
  view.setUint32(at + EXTENDED.gid, fields.gid, true);
  setUint64(view, at + EXTENDED.mtime, fields.mtimeSeconds);
  view.setUint32(at + EXTENDED.mtimeNanos, fields.mtimeNanos, true);
  view.setUint32(at + EXTENDED.links, links, true);
  return at + EXTENDED_BYTES;
}

/** A whole number, negative ones in two's complement. */
export function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / TWO_32) >>> 0, true);
}
