import { type ByteString, textOf } from './byte-string.ts';
import type { Entry } from './entry.ts';
import { comparePaths, isWithin, parentOf } from './path.ts';

/**
 * Checks that entries which pass by in order make a tree: sorted, none twice, each in a directory that came before. It remembers the
 * last entry only: in path order, the one before an entry is its directory or lies in it.
 */
export class TreeCheck {
  #last: ByteString | undefined;
  #lastIsDirectory = true;

  /** What is wrong with `entry` at this place, in words that follow "the entry '…'"; undefined if nothing is. */
  accept(entry: Entry): string | undefined {
    const { path } = entry;
    const last = this.#last;
    if (last !== undefined && comparePaths(last, path) >= 0)
      return `comes after '${textOf(last)}', which is no path order`;
    const parent = parentOf(path);
    if (parent !== undefined) {
      if (last === undefined || !isWithin(last, parent)) return 'has no entry for the directory that it is in';
      if (last === parent && !this.#lastIsDirectory) return 'is in an entry that is no directory';
    }
    this.#last = path;
    this.#lastIsDirectory = entry.type === 'directory';
    return undefined;
  }

  /** Takes note of entries known to be sound, of which `last` is the last. */
  skipTo(last: ByteString): void {
    this.#last = last;
    this.#lastIsDirectory = true;
  }
}
