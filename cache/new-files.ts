import { closeSync, constants, existsSync, openSync, renameSync, unlinkSync } from 'node:fs';
import { isDiskFull, isErrno } from '../dataset/errors.ts';
import { linkByDescriptor, linkFromProc, type NameDescriptor, renameat2 } from '../system/calls.ts';

/** A file that is being written, or waits for its name. */
export interface NewFile {
  /** Open for writing until it has its name or is dropped. */
  readonly descriptor: number;
  /** Where it has a name for so long. */
  readonly temporary?: string;
}

/** Permission bits of every object: nobody writes to it, whoever may see the mount may read it. */
const OBJECT_MODE = 0o444;

const UNNAMED = constants.O_WRONLY | 0o20000000 | constants.O_DIRECTORY;

/** What says that the file system, or what is below it, has no files without a name. */
const REFUSALS = ['ENOTSUP', 'EOPNOTSUPP', 'EISDIR', 'EINVAL', 'ENOENT'];

/**
 * Makes files that have no name until they get their place, where the file system can (O_TMPFILE): that is one change of a directory
 * for each instead of two, and whoever is killed leaves nothing behind. Elsewhere they have a name in a folder meanwhile.
 */
export class NewFiles {
  readonly #folder: string;
  readonly #link: NameDescriptor | undefined;
  /** Of the last path: it is written anew for each. */
  #path = Buffer.alloc(256);
  #serial = 0;

  /**
   * @param folder of its own, in the file system in which the files shall be
   * @param ways to name a file that has no name, the best first; where none works, files have names from the start
   */
  constructor(folder: string, ways: readonly NameDescriptor[] = [linkByDescriptor, linkFromProc]) {
    this.#folder = folder;
    this.#link = ways.find((way) => this.#works(way));
  }

  create(): NewFile {
    if (this.#link) return { descriptor: openSync(this.#folder, UNNAMED, OBJECT_MODE) };
    const temporary = `${this.#folder}/${this.#serial++}`;
    return { descriptor: openSync(temporary, 'wx', OBJECT_MODE), temporary };
  }

  /** Gives it its name for good, and closes it. @returns false where something is there already: that stays, and the file goes */
  place({ descriptor, temporary }: NewFile, path: string): boolean {
    if (temporary === undefined) {
      const placed = this.#link!(descriptor, this.#encoded(path));
      closeSync(descriptor);
      return placed;
    }
    const placed = moveInto(temporary, path);
    closeSync(descriptor);
    return placed;
  }

  drop({ descriptor, temporary }: NewFile): void {
    closeSync(descriptor);
    if (temporary !== undefined) unlinkSync(temporary);
  }

  #works(link: NameDescriptor): boolean {
    const trial = `${this.#folder}/trial`;
    let descriptor: number | undefined;
    try {
      descriptor = openSync(this.#folder, UNNAMED, OBJECT_MODE);
      link(descriptor, this.#encoded(trial));
      unlinkSync(trial);
      return true;
    } catch (error) {
      if (isDiskFull(error) || REFUSALS.some((code) => isErrno(error, code))) return false;
      throw error;
    } finally {
      if (descriptor !== undefined) closeSync(descriptor);
    }
  }

  /** With a zero byte at its end; valid until the next call. */
  #encoded(path: string): Buffer {
    // A character of a string has three bytes at most.
    if (this.#path.length <= 3 * path.length) this.#path = Buffer.alloc(6 * path.length);
    this.#path[this.#path.write(path)] = 0;
    return this.#path;
  }
}

/** Renames a file to a name that is free. @returns false where it is taken: what is there stays, and the file goes */
export function moveInto(file: string, path: string): boolean {
  try {
    renameat2(file, path, 'noreplace');
    return true;
  } catch (error) {
    if (isErrno(error, 'EINVAL')) {
      // A file system that cannot do both at once. A name is given by writers only, and those of one object have the same bytes.
      if (!existsSync(path)) {
        renameSync(file, path);
        return true;
      }
    } else if (!isErrno(error, 'EEXIST')) throw error;
  }
  unlinkSync(file);
  return false;
}
