import { setImmediate as turn } from 'node:timers/promises';
import type { ByteString } from '../../dataset/byte-string.ts';
import type { Change } from '../../dataset/commit.ts';
import { isErrno } from '../../dataset/errors.ts';
import { joinPath } from '../../dataset/path.ts';
import type { BaseTree } from '../base-tree.ts';
import { changesAt, metadataOf, shownThrough, type UpperOptions, type UpperPlace } from '../upper.ts';
import { type UpperFile, UpperReader } from '../upper-file.ts';
import type { Draft, KnownName, SaveIndex } from './index.ts';

/** What cannot be told from what changed alone: all of the upper layer has to be gone through. */
export class NeedsWholeWalk extends Error {}

export interface DeltaOptions extends UpperOptions {
  readonly base: BaseTree;
  readonly index: SaveIndex;
  /** The upper directory's inode. */
  readonly root: number;
  /** Inodes that are not as the index has them. */
  readonly changed: ReadonlySet<number>;
  readonly draft: Draft;
}

const BATCH = 256;

/**
 * The changes that an upper layer makes to the version that the index was kept for, in path order. Only what can lead to a change is looked
 * at: changed inodes, and the names in changed directories. Nothing is read; files come as in `upperChanges`.
 *
 * What is seen is told to `onSeen`, and names that went to the draft.
 */
export async function* deltaChanges(options: DeltaOptions): AsyncGenerator<Change[]> {
  using reader = new UpperReader(options.upper, options.live);
  const delta = new Delta(options, reader);
  const changes: Change[] = [];
  for await (const batch of delta.run()) {
    options.signal?.throwIfAborted();
    for (const change of batch) changes.push(change);
    if (changes.length >= BATCH) yield changes.splice(0);
    await turn();
  }
  if (changes.length > 0) yield changes;
}

class Delta {
  readonly #options: DeltaOptions;
  readonly #reader: UpperReader;
  /** In which directories which names have something changed at them or below. */
  readonly #dirty = new Map<number, Set<ByteString>>();

  constructor(options: DeltaOptions, reader: UpperReader) {
    this.#options = options;
    this.#reader = reader;
  }

  async *run(): AsyncGenerator<Change[]> {
    const { index, changed, root } = this.#options;
    for (const inode of changed) {
      // The names of such a file follow from all of its names, wherever they are.
      if (index.isLinked(inode)) throw new NeedsWholeWalk();
      this.#mark(inode);
    }
    const place = { path: '' as ByteString, inode: BigInt(root), base: '' as ByteString };
    if (changed.has(root)) {
      const file = this.#reader.examine(place.path);
      yield [this.#directoryPut(file, place, undefined)];
    }
    if (changed.has(root) || this.#dirty.has(root)) yield* this.#visit(place);
  }

  #mark(inode: number): void {
    for (const { parent, name } of this.#options.index.placesOf(inode)) {
      const names = this.#dirty.get(parent);
      if (names !== undefined) names.add(name);
      else {
        this.#dirty.set(parent, new Set([name]));
        this.#mark(parent);
      }
    }
  }

  /** A directory that was there under this name, and through which the same shows as before. */
  async *#visit(place: UpperPlace): AsyncGenerator<Change[]> {
    const { index, changed } = this.#options;
    const inode = Number(place.inode);
    const dirty = this.#dirty.get(inode) ?? new Set<ByteString>();
    if (!changed.has(inode)) {
      for (const name of [...dirty].sort(byBytes)) yield* this.#name(place, name, index.nameIn(inode, name));
      return;
    }
    const before = index.namesIn(inode);
    const names = this.#reader.list(place.path);
    const all = new Set([...names, ...before.keys()]);
    const isThere = new Set(names);
    for (const name of [...all].sort(byBytes)) {
      const known = before.get(name);
      const isAsBefore = known !== undefined && known.kind !== 'whiteout' && !changed.has(known.inode);
      if (isThere.has(name) && isAsBefore && !dirty.has(name)) continue;
      yield* this.#name(place, name, known);
    }
  }

  async *#name(place: UpperPlace, name: ByteString, before: KnownName | undefined): AsyncGenerator<Change[]> {
    const { changed } = this.#options;
    const path = joinPath(place.path, name);
    const wasDirectory = before?.kind === 'directory';
    if (wasDirectory && !changed.has(before.inode)) {
      yield* this.#visit({ path, inode: BigInt(before.inode), base: this.#options.index.baseOf(before.inode) });
      return;
    }
    const file = this.#examine(path);
    if (file === undefined) {
      yield* this.#lost(place, name, path);
      return;
    }
    if (before?.kind === 'whiteout' && file.kind === 'whiteout') return;
    if (wasDirectory && file.kind === 'directory' && Number(file.status.ino) === before.inode) {
      const base = (await shownThrough(this.#options.base, file, place, path))?.path;
      if (base === this.#options.index.baseOf(before.inode)) {
        const directory = { path, inode: file.status.ino, base };
        yield [this.#directoryPut(file, directory, { place, name })];
        yield* this.#visit(directory);
        return;
      }
    }
    yield* changesAt(this.#walkOptions(), this.#reader, { place, name, file, anew: before !== undefined });
  }

  /** What the version shows there now is what a name hides that has gone. */
  async *#lost(place: UpperPlace, name: ByteString, path: ByteString): AsyncGenerator<Change[]> {
    this.#options.draft.lost(Number(place.inode), name);
    yield [{ kind: 'delete', path }];
    if (place.base === undefined) return;
    const below = joinPath(place.base, name);
    for await (const entries of this.#options.base.subtree(below)) {
      yield entries.map((entry) => {
        const rest = entry.path.slice(below.length + 1) as ByteString;
        return { kind: 'put', entry: { ...entry, path: rest === '' ? path : joinPath(path, rest) } };
      });
    }
  }

  #directoryPut(
    file: UpperFile,
    { path, base }: UpperPlace,
    parent: { readonly place: UpperPlace; readonly name: ByteString } | undefined,
  ): Change {
    const name = parent?.name ?? ('' as ByteString);
    this.#options.onSeen?.({ path, name, parent: parent?.place.inode, file, base });
    return { kind: 'put', entry: { type: 'directory', path, ...metadataOf(file) } };
  }

  /** Undefined where it is no more. */
  #examine(path: ByteString): UpperFile | undefined {
    try {
      return this.#reader.examine(path);
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  #walkOptions(): UpperOptions {
    const { onSeen, draft } = this.#options;
    return {
      ...this.#options,
      onSeen(seen) {
        if (seen.file.kind === 'directory') draft.whole(Number(seen.file.status.ino));
        // Its group's name may be another now, and its other names may be anywhere.
        if (seen.file.kind === 'file' && seen.file.status.nlink > 1n) throw new NeedsWholeWalk();
        onSeen?.(seen);
      },
    };
  }
}

function byBytes(a: string, b: string): number {
  return a < b ? -1 : 1;
}
