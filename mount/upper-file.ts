import { type BigIntStats, lstatSync, readdirSync, readlinkSync } from 'node:fs';

import { type ByteString, fromBuffer } from '../dataset/byte-string.ts';
import type { Xattr } from '../dataset/entry.ts';
import { isErrno } from '../dataset/errors.ts';
import { DeepPaths, fsPath } from '../dataset/import/deep-path.ts';
import { joinPath } from '../dataset/path.ts';
import { lgetxattr, llistxattr } from '../system/calls.ts';
import { decodeOwner, OWNER_MARK } from './owner-mark.ts';
import { ownershipWithout, readUpperView, type UpperView } from './upper-view.ts';
import type { Ownership, Viewed } from './view.ts';

/** One name in an upper layer, as overlayfs left it. */
export interface UpperFile {
  readonly kind: 'file' | 'directory' | 'symlink' | 'whiteout' | 'device' | 'socket' | 'fifo';
  readonly status: BigIntStats;
  /** Mode and owner without the view through which the layer is seen: what a version keeps. */
  readonly owner: Ownership;
  /** What an image with a view says of the version's mode and owner, of a file that was copied up. */
  readonly marked?: Ownership;
  /** `user.*`, sorted; absent when there are none. */
  readonly xattrs?: readonly Xattr[];
  /** A directory that hides what is below it. */
  readonly opaque: boolean;
  /** A file of which only metadata were copied up: its data are the version's. */
  readonly metacopy: boolean;
  /** Where a moved directory, or a moved file without data, is in the version: absolute from the root, or a sibling's name. */
  readonly redirect?: ByteString;
}

const OPAQUE = 'trusted.overlay.opaque';
const METACOPY = 'trusted.overlay.metacopy';
const REDIRECT = 'trusted.overlay.redirect';
const WHITEOUT = 'trusted.overlay.whiteout';

/** Reads an upper directory, whose paths may be longer than the kernel takes. */
export class UpperReader implements Disposable {
  readonly #root: ByteString;
  readonly #live: boolean;
  readonly #view: UpperView | undefined;
  readonly #deep = new DeepPaths();

  /**
   * @param root absolute
   * @param live names may go while they are looked at
   */
  constructor(root: ByteString, live = false) {
    this.#root = root;
    this.#live = live;
    this.#view = readUpperView(root);
  }

  absolute(path: ByteString): ByteString {
    return path === '' ? this.#root : joinPath(this.#root, path);
  }

  /** The names in a directory, in byte order. */
  list(path: ByteString): ByteString[] {
    const names = this.#gone(() => readdirSync(this.#reach(path), { encoding: 'latin1' }) as ByteString[]) ?? [];
    return names.sort((a, b) => (a < b ? -1 : 1));
  }

  /** Undefined where there is none, if that may be. */
  look(path: ByteString): UpperFile | undefined {
    return this.#gone(() => this.examine(path));
  }

  examine(path: ByteString): UpperFile {
    const at = this.#reach(path);
    const status = lstatSync(at, { bigint: true });
    const kind = kindOf(status);
    let opaque = false;
    let metacopy = false;
    let whiteout = kind === 'whiteout';
    let redirect: ByteString | undefined;
    let marked: Ownership | undefined;
    const xattrs: Xattr[] = [];
    if (!whiteout) {
      for (const name of llistxattr(at)) {
        if (name === METACOPY) metacopy = true;
        else if (name === WHITEOUT) whiteout = kind === 'file' && status.size === 0n;
        else if (name === OPAQUE) opaque = lgetxattr(at, name)?.toString('latin1') === 'y';
        else if (name === REDIRECT) redirect = fromBuffer(lgetxattr(at, name) ?? Buffer.alloc(0));
        else if (name === OWNER_MARK) marked = decodeOwner(lgetxattr(at, name));
        else if (name.startsWith('user.')) {
          const value = lgetxattr(at, name);
          if (value !== undefined) xattrs.push({ name: name as ByteString, value });
        }
      }
    }
    xattrs.sort((a, b) => (a.name < b.name ? -1 : 1));
    const seen = { mode: Number(status.mode & 0o7777n), uid: Number(status.uid), gid: Number(status.gid) };
    return {
      kind: whiteout ? 'whiteout' : kind,
      status,
      owner: this.#view === undefined ? seen : ownershipWithout(this.#view, viewedAs(kind), seen, marked),
      ...(marked && { marked }),
      opaque,
      metacopy: metacopy && kind === 'file',
      redirect,
      xattrs: xattrs.length > 0 ? xattrs : undefined,
    };
  }

  /** Undefined where it is none any more. */
  linkTarget(path: ByteString): ByteString | undefined {
    return this.#gone(() => fromBuffer(readlinkSync(this.#reach(path), { encoding: 'buffer' })));
  }

  #gone<Result>(look: () => Result): Result | undefined {
    try {
      return look();
    } catch (error) {
      // EINVAL: no symbolic link any more.
      if (this.#live && ['ENOENT', 'ENOTDIR', 'EINVAL'].some((code) => isErrno(error, code))) return undefined;
      throw error;
    }
  }

  #reach(path: ByteString): string | Buffer {
    return fsPath(this.#deep.reach(this.absolute(path)));
  }

  [Symbol.dispose](): void {
    this.#deep.close();
  }
}

/** Devices, sockets and FIFOs are as files are. */
export function viewedAs(kind: UpperFile['kind']): Viewed {
  return kind === 'directory' || kind === 'symlink' ? kind : 'file';
}

function kindOf(status: BigIntStats): UpperFile['kind'] {
  if (status.isFile()) return 'file';
  if (status.isDirectory()) return 'directory';
  if (status.isSymbolicLink()) return 'symlink';
  if (status.isCharacterDevice() && status.rdev === 0n) return 'whiteout';
  if (status.isSocket()) return 'socket';
  return status.isFIFO() ? 'fifo' : 'device';
}
