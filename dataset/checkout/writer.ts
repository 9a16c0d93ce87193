import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  lchownSync,
  openSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { futimens, utimensat } from '../../system/calls/file.ts';
import { fsetxattr } from '../../system/calls/xattr.ts';
import type { ByteString } from '../byte-string.ts';
import { isErrno } from '../errors.ts';
import { DeepPaths, fsPath } from '../import/deep-path.ts';
import { joinPath, parentOf } from '../path.ts';
import type { Metadata } from './file-batch.ts';

/** Writes entries below a directory. A file has its own name only once it is whole and has its metadata. */
export class Writer {
  readonly #root: ByteString;
  readonly #prefix: string;
  readonly #isRoot = process.getuid?.() === 0;
  readonly #deep = new DeepPaths();
  #count = 0;
  /** Attributes that the file system refused to keep. */
  lostXattrs = 0;

  /** @param unique a part of temporary names that no other writer has */
  constructor(root: ByteString, unique: string) {
    this.#root = root;
    this.#prefix = `.larder-${unique}-`;
  }

  /** A file of these bytes. */
  file(path: ByteString, bytes: Uint8Array, metadata: Metadata): void {
    const temporary = this.temporaryFor(path);
    const fd = this.#create(temporary);
    try {
      try {
        for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at);
        this.#describe(fd, metadata);
      } finally {
        closeSync(fd);
      }
      this.#rename(temporary, path);
    } catch (error) {
      this.discard(temporary);
      throw error;
    }
  }

  /** A name beside `path` for its unfinished file. */
  temporaryFor(path: ByteString): ByteString {
    return joinPath(parentOf(path)!, `${this.#prefix}${this.#count++}` as ByteString);
  }

  /** Writes a part of an unfinished file. */
  part(temporary: ByteString, at: number, bytes: Uint8Array): void {
    const fd = openSync(this.#reach(temporary), constants.O_WRONLY | constants.O_NOFOLLOW);
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, at + done);
    } finally {
      closeSync(fd);
    }
  }

  /** Gives an unfinished file its metadata and its name. */
  finish(temporary: ByteString, path: ByteString, metadata: Metadata): void {
    const fd = openSync(this.#reach(temporary), constants.O_WRONLY | constants.O_NOFOLLOW);
    try {
      this.#describe(fd, metadata);
    } finally {
      closeSync(fd);
    }
    this.#rename(temporary, path);
  }

  symlink(path: ByteString, target: ByteString, metadata: Metadata): void {
    const temporary = this.temporaryFor(path);
    const at = this.#reach(temporary);
    symlinkSync(fsPath(target), at);
    if (this.#isRoot) lchownSync(at, metadata.uid, metadata.gid);
    utimensat(at, 'omit', { seconds: metadata.mtimeSeconds, nanos: metadata.mtimeNanos });
    this.#rename(temporary, path);
  }

  /** Sets a directory's metadata, once all that is in it is there. */
  directory(path: ByteString, metadata: Metadata): void {
    const fd = openSync(
      this.#reach(path),
      constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
    );
    try {
      this.#describe(fd, metadata);
    } finally {
      closeSync(fd);
    }
  }

  discard(temporary: ByteString): void {
    try {
      unlinkSync(this.#reach(temporary));
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
    }
  }

  #create(path: ByteString): number {
    return openSync(
      this.#reach(path),
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      0o600,
    );
  }

  #describe(fd: number, { mode, uid, gid, mtimeSeconds, mtimeNanos, xattrs }: Metadata): void {
    // The owner first: a change of owner takes set-user-id away.
    if (this.#isRoot) fchownSync(fd, uid, gid);
    for (const { name, value } of xattrs ?? [])
      try {
        fsetxattr(fd, name, value);
      } catch (error) {
        if (!isErrno(error, 'ENOTSUP') && !isErrno(error, 'EOPNOTSUPP')) throw error;
        this.lostXattrs++;
      }
    fchmodSync(fd, mode);
    futimens(fd, 'omit', { seconds: mtimeSeconds, nanos: mtimeNanos });
  }

  #rename(temporary: ByteString, path: ByteString): void {
    // The second name is reached through the same open directory as the first.
    renameSync(this.#reach(temporary), this.#reach(path));
  }

  #reach(path: ByteString): string | Buffer {
    return fsPath(this.#deep.reach(joinPath(this.#root, path)));
  }
}
