/**
 * The layout of an EROFS image, to the byte. Every number is little-endian. The format's definition is Linux's
 * fs/erofs/erofs_fs.h; what is used of it here:
 *
 *   block 0     1,024 bytes of zeros, superblock (128), long xattr name prefixes, the shared metacopy mark, first inodes
 *   after it    extents (runs of whole blocks) of three kinds, in whatever order they filled:
 *               inodes with their xattrs and inline data; directory and file blocks; shared xattrs
 *
 *   superblock at 1,024
 *     0  u32 magic             4  u32 CRC-32C of the rest of block 0, this field as zero
 *     8  u32 compatible        12 u8  log2 of the block size           13 u8  extra slots (0)
 *     14 u16 root's nid        16 u64 inodes
 *     24 u64 build time        32 u32 its nanoseconds: the mtime of compact inodes
 *     36 u32 blocks            40 u32 metadata's first block (0)       44 u32 shared xattrs' first block (0)
 *     48 16 bytes UUID         64 16 bytes volume name, NUL-terminated 80 u32 incompatible
 *     91 u8  name prefixes     92 u32 their place in units of 4 bytes
 *
 *   An inode's number (nid) is its byte offset in the image / 32; a shared xattr's id is its byte offset / 4.
 *
 *   compact inode (32 bytes)                    extended inode (64 bytes)
 *     0  u16 format: layout << 1                  0  u16 format: layout << 1 | 1
 *     2  u16 xattr words: 0, or (bytes - 12) / 4 + 1   (both)
 *     4  u16 mode                                 4  u16 mode
 *     6  u16 links                                8  u64 size
 *     8  u32 size                                 16 u32 first block, or chunk format
 *     16 u32 first block, or chunk format         20 u32 inode's ordinal
 *     20 u32 inode's ordinal                      24 u32 uid, 28 u32 gid
 *     24 u16 uid, 26 u16 gid                      32 s64 mtime, 40 u32 its nanoseconds, 44 u32 links
 *
 *   xattr body (after the inode): 0 u32 name filter, 4 u8 shared count, 12 u32 shared ids, then entries
 *   xattr entry: 0 u8 name length, 1 u8 name index, 2 u16 value length, name, value, zeros to a multiple of 4
 *   long name prefix: u16 length of what follows, u8 name index, infix, zeros to a multiple of 4
 *   directory block: entries of 12 bytes (0 u64 nid, 8 u16 name's offset in the block, 10 u8 type), then the names,
 *     in byte order of the names, `.` and `..` in their place among them
 */
export const BLOCK = 4096;
export const BLOCK_BITS = 12;

export const SUPERBLOCK_AT = 1024;
export const SUPERBLOCK_BYTES = 128;
export const MAGIC = 0xe0f5e1e2;

export const SB = {
  magic: 0,
  checksum: 4,
  compatible: 8,
  blockBits: 12,
  rootNid: 14,
  inodes: 16,
  buildTime: 24,
  buildNanos: 32,
  blocks: 36,
  metaBlock: 40,
  xattrBlock: 44,
  uuid: 48,
  volumeName: 64,
  incompatible: 80,
  prefixCount: 91,
  prefixStart: 92,
  filterReserved: 104,
} as const;

export const UUID_BYTES = 16;
/** Without the NUL that ends it. */
export const VOLUME_NAME_BYTES = 15;

export const COMPATIBLE_CHECKSUM = 0x1;
export const COMPATIBLE_MTIME = 0x2;
/** Linux 6.6; older kernels ignore it. */
export const COMPATIBLE_XATTR_FILTER = 0x4;
export const INCOMPATIBLE_CHUNKED_FILE = 0x4;
/** Linux 6.4; older kernels refuse the image. */
export const INCOMPATIBLE_XATTR_PREFIXES = 0x40;

export const SLOT = 32;
export const COMPACT_BYTES = 32;
export const EXTENDED_BYTES = 64;

export const INODE = { format: 0, xattrWords: 2, mode: 4, where: 16, ordinal: 20 } as const;
export const COMPACT = { links: 6, size: 8, uid: 24, gid: 26 } as const;
export const EXTENDED = { size: 8, uid: 24, gid: 28, mtime: 32, mtimeNanos: 40, links: 44 } as const;

/** How an inode's data lies: in blocks; the same with the last part behind the inode; in chunks, named by an index behind the inode. */
export const LAYOUT = { plain: 0, inline: 2, chunked: 4 } as const;
export type Layout = (typeof LAYOUT)[keyof typeof LAYOUT];

/** Chunk format: low five bits are log2 of a chunk's blocks. Each chunk's index is a u32 block number, or this for a hole. */
export const CHUNK_HOLE = 0xffffffff;
export const CHUNK_BITS_MAX = 31;
export const CHUNK_INDEX_BYTES = 4;

export const MODE = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  type: 0o170000,
  permissions: 0o7777,
} as const;

export const DIRENT_BYTES = 12;
export const DIRENT = { nid: 0, nameOffset: 8, type: 10 } as const;
export const DIRENT_TYPE = { file: 1, directory: 2, symlink: 7 } as const;
export type DirentType = (typeof DIRENT_TYPE)[keyof typeof DIRENT_TYPE];
export const NAME_BYTES_MAX = 255;

export const XATTR_HEADER_BYTES = 12;
export const XATTR_HEADER = { filter: 0, sharedCount: 4 } as const;
export const XATTR_ENTRY_BYTES = 4;
export const XATTR_INDEX = { user: 1, defaultAcl: 3, trusted: 4 } as const;
export const XATTR_LONG_PREFIX = 0x80;
export const XATTR_SHARED_MAX = 255;
export const XATTR_VALUE_MAX = 0xffff;
/** What the u16 of xattr words can say. */
export const XATTR_BODY_MAX = XATTR_HEADER_BYTES + (0xffff - 1) * 4;
export const XATTR_FILTER_SEED = 0x25bbe08f;

export const TWO_32 = 2 ** 32;

export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
