import type { ByteString } from '../dataset/byte-string.ts';
import type { Digest } from '../dataset/digest.ts';
import type { Entry } from '../dataset/entry.ts';
import { readEntries, readSegment, readSegments } from '../dataset/manifest.ts';
import { comparePaths } from '../dataset/path.ts';
import type { Repository } from '../dataset/repository.ts';

/** What reading an upper layer asks of the version below it. */
export interface BaseTree {
  find(path: ByteString): Promise<Entry | undefined>;
  /** The entry at `path`, if there is one, and all below it, in path order. */
  subtree(path: ByteString): AsyncIterable<readonly Entry[]>;
  /** The names of all hard-link groups. Costs a pass over the manifest: asked only where the upper layer has groups of its own. */
  linkGroups(): Promise<ReadonlySet<ByteString>>;
}

/** Leaves kept decoded: changes come in path order, and renames jump. */
const KEPT_LEAVES = 16;

/** The version whose manifest has this root. */
export function baseTree(repository: Repository, root: Digest, signal?: AbortSignal): BaseTree {
  const kept = new Map<Digest, readonly Entry[]>();

  const leaf = async (digest: Digest): Promise<readonly Entry[]> => {
    const entries = kept.get(digest) ?? (await readSegment(repository, digest, signal));
    kept.delete(digest);
    kept.set(digest, entries);
    if (kept.size > KEPT_LEAVES) for (const oldest of kept.keys()) if (kept.delete(oldest)) break;
    return entries;
  };

  return {
    async find(path) {
      for await (const { digest } of readSegments(repository, root, { prefix: path, from: path, signal })) {
        return findIn(await leaf(digest), path);
      }
      return undefined;
    },
    subtree: (path) => readEntries(repository, root, { prefix: path, signal }),
    async linkGroups() {
      const groups = new Set<ByteString>();
      for await (const entries of readEntries(repository, root, { signal })) {
        for (const entry of entries) if (entry.type === 'file' && entry.link !== undefined) groups.add(entry.link);
      }
      return groups;
    },
  };
}

function findIn(entries: readonly Entry[], path: ByteString): Entry | undefined {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (comparePaths(entries[middle]!.path, path) < 0) low = middle + 1;
    else high = middle;
  }
  return entries[low]?.path === path ? entries[low] : undefined;
}

/** The entries at and below a path one by one, with a look at the next. */
export class SubtreeCursor implements AsyncDisposable {
  readonly #batches: AsyncIterator<readonly Entry[]>;
  #batch: readonly Entry[] = [];
  #index = 0;
  #ended = false;

  constructor(base: BaseTree, path: ByteString) {
    this.#batches = base.subtree(path)[Symbol.asyncIterator]();
  }

  /** The next entry, which stays; undefined at the end. */
  async peek(): Promise<Entry | undefined> {
    while (this.#index === this.#batch.length && !this.#ended) {
      const { done, value } = await this.#batches.next();
      this.#batch = done ? [] : value;
      this.#index = 0;
      this.#ended = done === true;
    }
    return this.#batch[this.#index];
  }

  advance(): void {
    this.#index += 1;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#batches.return?.();
  }
}
