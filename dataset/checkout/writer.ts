import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
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
import { parentOf } from '../path.ts';
import type { Metadata } from './file-batch.ts';
import type { Layout } from './layout.ts';

/** Writes entries of a checkout, in a worker thread. A file that others may see has its own name only once it is whole. */
export class Writer {
  readonly #layout: Layout;
  readonly #thread: number;
  readonly #isRoot = process.geteuid?.() === 0;
  readonly #umask = process.umask();
  readonly #deep = new DeepPaths();
  /** The directory of the last file made, and whom files belong to that are made there. */
  #made: { readonly directory: ByteString | undefined; readonly uid: number; readonly gid: number } | undefined;
  /** Attributes that the file system refused to keep. */
  lostXattrs = 0;

  constructor(layout: Layout, thread: number) {
    this.#layout = layout;
    this.#thread = thread;
  }

  /** A file of these bytes. */
  file(path: ByteString, bytes: Uint8Array, metadata: Metadata): void {
    const temporary = this.#layout.temporaryFor(path, this.#thread);
    // Without set-user-id and the like until it is whole.
    const mode = metadata.mode & 0o777 & ~this.#umask;
    const at = this.#reach(temporary);
    const fd = openSync(at, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, mode);
    try {
      try {
        for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done);
        const owner = this.#ownerOf(fd, path);
        this.#describe(fd, metadata, { mode, ...owner });
      } finally {
        closeSync(fd);
      }
      this.#rename(temporary, path);
    } catch (error) {
      this.#discard(temporary);
      throw error;
    }
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
    const temporary = this.#layout.temporaryFor(path, this.#thread);
    const at = this.#reach(temporary);
    symlinkSync(fsPath(target), at);
    if (this.#isRoot) lchownSync(at, metadata.uid, metadata.gid);
    utimensat(at, 'omit', { seconds: metadata.mtimeSeconds, nanos: metadata.mtimeNanos });
    this.#rename(temporary, path);
  }

  /** Sets a directory's metadata, once all that is in it is there. `moved`: it is at its place already. */
  directory(path: ByteString, metadata: Metadata, moved: boolean): void {
    const at = moved ? this.#layout.final(path) : this.#layout.place(path, true);
    const fd = openSync(
      fsPath(this.#deep.reach(at)),
      constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
    );
    try {
      this.#describe(fd, metadata);
    } finally {
      closeSync(fd);
    }
  }

  /** Whom a file belongs to that was just made: the same for all of a directory, so one is asked. */
  #ownerOf(fd: number, path: ByteString): { readonly uid: number; readonly gid: number } {
    const directory = parentOf(path);
    if (this.#made === undefined || this.#made.directory !== directory) {
      const { uid, gid } = fstatSync(fd);
      this.#made = { directory, uid, gid };
    }
    return this.#made;
  }

  /** @param has what the file is known to have: that need not be set */
  #describe(
    fd: number,
    { mode, uid, gid, mtimeSeconds, mtimeNanos, xattrs }: Metadata,
    has?: { readonly mode: number; readonly uid: number; readonly gid: number },
  ): void {
    // The owner first: a change of owner takes set-user-id away.
    if (this.#isRoot && (has?.uid !== uid || has.gid !== gid)) fchownSync(fd, uid, gid);
    for (const { name, value } of xattrs ?? [])
      try {
        fsetxattr(fd, name, value);
      } catch (error) {
        if (!isErrno(error, 'ENOTSUP') && !isErrno(error, 'EOPNOTSUPP')) throw error;
        this.lostXattrs++;
      }
    if (has?.mode !== mode) fchmodSync(fd, mode);
    futimens(fd, 'omit', { seconds: mtimeSeconds, nanos: mtimeNanos });
  }

  #rename(temporary: ByteString, path: ByteString): void {
    // The second name is reached through the same open directory as the first.
    if (temporary !== path) renameSync(this.#reach(temporary), this.#reach(path));
  }

  #discard(temporary: ByteString): void {
    try {
      unlinkSync(this.#reach(temporary));
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
    }
  }

  #reach(path: ByteString): string | Buffer {
    return fsPath(this.#deep.reach(this.#layout.place(path)));
  }
}
