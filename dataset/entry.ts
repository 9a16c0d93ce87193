import type { ByteString } from './byte-string.ts';
import type { Digest } from './digest.ts';

/** One path of a version, with everything that a file system keeps of it. */
export type Entry = FileEntry | DirectoryEntry | SymlinkEntry;

interface EntryBase {
  /** Relative to the dataset's root, which is itself the entry with path `''`. */
  readonly path: ByteString;
  /** Permission bits with set-user-id, set-group-id and sticky: 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Whole seconds since 1970, negative before. */
  readonly mtimeSeconds: number;
  /** 0 to 999,999,999. */
  readonly mtimeNanos: number;
  /** Extended attributes in `user.`, sorted by name; absent when there are none. */
  readonly xattrs?: readonly Xattr[];
}

export interface Xattr {
  /** With its prefix: `user.label`. */
  readonly name: ByteString;
  readonly value: Buffer;
}

export interface FileEntry extends EntryBase {
  readonly type: 'file';
  /** In bytes. */
  readonly size: number;
  readonly content: Content;
  /**
   * The hard-link group: entries of one version with the same `link` are one inode. The group's name is the path of its
   * first member when it was made; it stays when that member goes. Members agree in everything but their path.
   */
  readonly link?: ByteString;
}

export interface DirectoryEntry extends EntryBase {
  readonly type: 'directory';
}

export interface SymlinkEntry extends EntryBase {
  readonly type: 'symlink';
  readonly target: ByteString;
}

export type Content = InlineContent | ChunkContent | ChunksContent | SourceContent;

/** A file so small that its bytes stand in the manifest; an empty file has none. */
export interface InlineContent {
  readonly kind: 'inline';
  readonly bytes: Buffer;
}

/** One chunk is the whole file: its content id is the chunk's SHA-256. */
export interface ChunkContent {
  readonly kind: 'chunk';
  readonly id: Digest;
}

/** Several chunks, or holes among them. The content id is a digest of the part list's encoding (docs/formats.md). */
export interface ChunksContent {
  readonly kind: 'chunks';
  readonly id: Digest;
  readonly parts: readonly Part[];
}

/** A run of a file: a chunk, or a hole (`chunk` absent) that reads as zeros and takes no space. */
export interface Part {
  readonly chunk?: Digest;
  /** In bytes, uncompressed. */
  readonly length: number;
}

/** An object of someone else's bucket that stays where it is. */
export interface SourceContent {
  readonly kind: 'source';
  /** A digest of the reference's encoding (docs/formats.md): a changed source is another content. */
  readonly id: Digest;
  readonly bucket: string;
  readonly key: string;
  readonly etag: string;
  readonly version?: string;
}

/** The largest file whose bytes stand in the manifest, in bytes. */
export const INLINE_LIMIT = 256;
