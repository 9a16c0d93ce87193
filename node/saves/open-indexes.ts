import { statSync } from 'node:fs';
import { openSaveIndex, type SaveIndex } from '../../mount/save/index.ts';

/** Indexes of saves, of which some stay open: opening one takes longer than a small save. */
export interface OpenIndexes extends Disposable {
  /** The same for all that have it open. To be let go of by `using`. */
  open(file: string): OpenIndex;
  /** Closes one that nobody uses. */
  close(file: string): void;
}

export interface OpenIndex extends Disposable {
  readonly index: SaveIndex;
}

interface Opened {
  readonly index: SaveIndex;
  readonly identity: string;
  users: number;
}

/** @param most so many that nobody uses stay open */
export function openIndexes(most: number): OpenIndexes {
  const opened = new Map<string, Opened>();
  const close = (file: string, one: Opened) => {
    opened.delete(file);
    one.index[Symbol.dispose]();
  };
  const closeSome = () => {
    const unused = [...opened].filter(([, { users }]) => users === 0);
    for (const [file, one] of unused.slice(0, Math.max(0, unused.length - most))) close(file, one);
  };
  return {
    open(file) {
      let one = opened.get(file);
      // Deleted since, with the image that it was of.
      if (one !== undefined && one.users === 0 && identityOf(file) !== one.identity) {
        close(file, one);
        one = undefined;
      }
      if (one === undefined) {
        const index = openSaveIndex(file);
        one = { index, identity: identityOf(file)!, users: 0 };
      }
      // Those used last are the last.
      opened.delete(file);
      opened.set(file, one);
      one.users += 1;
      const used = one;
      return {
        index: used.index,
        [Symbol.dispose]() {
          used.users -= 1;
          closeSome();
        },
      };
    },
    close(file) {
      const one = opened.get(file);
      if (one?.users === 0) close(file, one);
    },
    [Symbol.dispose]() {
      for (const [file, one] of opened) close(file, one);
    },
  };
}

/** Undefined where there is none. */
export function identityOf(file: string): string | undefined {
  const found = statSync(file, { bigint: true, throwIfNoEntry: false });
  return found && `${found.dev} ${found.ino} ${found.birthtimeNs}`;
}
