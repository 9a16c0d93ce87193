import type { ByteString } from '../byte-string.ts';
import { joinPath, parentOf } from '../path.ts';

/**
 * Where entries are while a checkout is under way. In a new or empty target, directories grow inside of one with a name of ours and move to
 * their places at the end, so that what is in them can have its own name from the beginning; all else, and everything in a target that
 * has something in it, is written beside its place and renamed.
 */
export class Layout {
  readonly root: ByteString;
  readonly #unique: string;
  /** Whether directories grow aside. */
  readonly isStaged: boolean;
  #count = 0;

  constructor(root: ByteString, unique: string, isStaged: boolean) {
    this.root = root;
    this.#unique = unique;
    this.isStaged = isStaged;
  }

  /** The absolute path of the directory in which directories grow. */
  get stage(): ByteString {
    return joinPath(this.root, `.larder-${this.#unique}` as ByteString);
  }

  /** Whether a file, or link, is written under its own name: nobody sees it before its directory is complete. */
  isDirect(path: ByteString): boolean {
    return this.isStaged && path.includes('/');
  }

  /** The absolute path of what is under way. */
  place(path: ByteString, isDirectory = false): ByteString {
    if (path === '') return this.root;
    return joinPath(this.isDirect(path) || (this.isStaged && isDirectory) ? this.stage : this.root, path);
  }

  /** The absolute path at the end. */
  final(path: ByteString): ByteString {
    return path === '' ? this.root : joinPath(this.root, path);
  }

  /** A path beside `path` for what is not whole yet; `path` itself where that is direct. `owner`: a part of the name that no other thread has. */
  temporaryFor(path: ByteString, owner: number): ByteString {
    if (this.isDirect(path)) return path;
    return joinPath(parentOf(path)!, `.larder-${this.#unique}-${owner}-${this.#count++}` as ByteString);
  }
}
