import {
  appendFileSync,
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { removexattr, setxattr, utimensat } from '../system/calls.ts';

/** A small generator of numbers: a failing seed can be run again. */
export function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const names = ['a', 'b', 'a-', 'a b', 'é', 'z,:\\'];

/** Operations that make a tree. */
export const growing = ['create', 'create', 'mkdir', 'mkdir', 'symlink', 'link', 'chmod', 'attribute', 'touch'];

/** Makes random edits of trees of files, the same in each. */
export class Editor {
  readonly #random: (below: number) => number;
  readonly #trees: readonly string[];
  readonly #without: ReadonlySet<string>;

  /** Edits `trees` in the same way; what there is to edit is looked up in the first. `without` are operations that it leaves out. */
  constructor(random: (below: number) => number, trees: readonly string[], without: readonly string[] = []) {
    this.#without = new Set(without);
    this.#random = random;
    this.#trees = trees;
  }

  /** @param kinds the operations to choose from; without them, all */
  edit(kinds?: readonly string[]): void {
    const paths = this.#paths();
    const existing = this.#pick(paths);
    const directories = paths.filter((path) => this.#status(path).isDirectory());
    const fresh = join(this.#pick(directories), this.#pick(names));
    const free = !paths.includes(fresh);
    const status = this.#status(existing);
    // A name of a hard link of the version leaves its group when it is changed in a workspace, and not in a plain directory.
    const alone = !status.isFile() || status.nlink === 1;
    const root = existing === '';
    const operations: Record<string, () => void> = {
      create: () => free && this.#write(fresh),
      overwrite: () => status.isFile() && alone && this.#write(existing),
      append: () => status.isFile() && alone && this.#each(existing, (path) => appendFileSync(path, 'more')),
      truncate: () =>
        status.isFile() && alone && this.#each(existing, (path) => truncateSync(path, Math.floor(status.size / 2))),
      mkdir: () => free && this.#each(fresh, (path) => mkdirSync(path)),
      symlink: () => free && this.#each(fresh, (path) => symlinkSync(existing || '.', path)),
      chmod: () => {
        const mode = this.#random(0o10000) | 0o600;
        if (alone && !status.isSymbolicLink()) this.#each(existing, (path) => chmodSync(path, mode));
      },
      chown: () => {
        const uid = this.#random(5);
        if (alone && !status.isSymbolicLink()) this.#each(existing, (path) => chownSync(path, uid, uid + 1));
      },
      attribute: () => {
        const value = Buffer.from([this.#random(256)]);
        if (alone && !status.isSymbolicLink())
          this.#each(existing, (path) => setxattr(path, `user.${value[0]! % 3}`, value));
      },
      noAttribute: () => {
        if (!alone || status.isSymbolicLink()) return;
        this.#each(existing, (path) => {
          try {
            removexattr(path, 'user.1');
          } catch (error) {
            if ((error as NodeJS.ErrnoException).code !== 'ENODATA') throw error;
          }
        });
      },
      touch: () => {
        const seconds = this.#random(2_000_000_000) - 1_000_000_000;
        if (alone) this.#each(existing, (path) => utimensat(path, 'omit', { seconds, nanos: 5 }));
      },
      remove: () => !root && this.#random(2) === 0 && this.#each(existing, (path) => rmSync(path, { recursive: true })),
      rename: () => !root && !`${fresh}/`.startsWith(`${existing}/`) && this.#rename(existing, fresh),
      moveDirectory: () => {
        const from = this.#pick(directories);
        if (from !== '' && free && !`${fresh}/`.startsWith(`${from}/`)) this.#rename(from, fresh);
      },
      moveBack: () => {
        // Out, its parent made anew, and in again under the same name.
        const inner = directories.filter((path) => path.includes('/'));
        const from = inner.length === 0 ? undefined : this.#pick(inner);
        if (from === undefined || paths.includes('back')) return;
        this.#rename(from, 'back');
        this.#each(dirname(from), (path) => {
          rmSync(path, { recursive: true });
          mkdirSync(path);
        });
        this.#rename('back', from);
      },
      exchange: () => {
        const other = this.#pick(paths);
        if (root || other === '' || `${other}/`.startsWith(`${existing}/`) || `${existing}/`.startsWith(`${other}/`))
          return;
        this.#rename(existing, `${existing}~`);
        this.#rename(other, existing);
        this.#rename(`${existing}~`, other);
      },
      link: () => {
        if (!free || !status.isFile() || !alone) return;
        for (const tree of this.#trees) linkSync(join(tree, existing), join(tree, fresh));
      },
      renew: () => {
        if (root || !status.isDirectory()) return;
        this.#each(existing, (path) => {
          rmSync(path, { recursive: true });
          mkdirSync(path);
        });
      },
    };
    // What moves and hides whole directories is the hard part.
    const hard = ['moveDirectory', 'moveDirectory', 'moveDirectory', 'moveBack', 'renew', 'renew'];
    operations[
      this.#pick(kinds ?? [...Object.keys(operations), ...hard].filter((kind) => !this.#without.has(kind)))
    ]!();
  }

  #rename(from: string, to: string): void {
    const outcomes = this.#trees.map((tree) => {
      try {
        renameSync(join(tree, from), join(tree, to));
        return 'done';
      } catch (error) {
        return (error as NodeJS.ErrnoException).code;
      }
    });
    if (new Set(outcomes).size !== 1) throw new Error(`rename ${from} to ${to}: ${outcomes}`);
  }

  #write(path: string): void {
    const data = Buffer.alloc(this.#random(3) === 0 ? this.#random(256) : 257 + this.#random(5000), this.#random(256));
    this.#each(path, (at) => writeFileSync(at, data));
  }

  #each(path: string, act: (at: string) => void): void {
    for (const tree of this.#trees) act(join(tree, path));
  }

  #status(path: string) {
    return lstatSync(join(this.#trees[0]!, path));
  }

  #paths(): string[] {
    const paths = [''];
    // Grows while it is walked.
    for (const path of paths) {
      if (!this.#status(path).isDirectory()) continue;
      for (const name of readdirSync(join(this.#trees[0]!, path)).sort()) paths.push(join(path, name));
    }
    return paths;
  }

  #pick<T>(items: readonly T[]): T {
    return items[this.#random(items.length)]!;
  }
}
