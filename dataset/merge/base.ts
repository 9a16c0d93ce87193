import type { Digest } from '../digest.ts';
import { InvalidError } from '../errors.ts';
import type { Repository } from '../repository.ts';
import { findVersion, readVersion, type Version } from '../version.ts';

/** Which of two histories a version is in, and whether it leads to one that is in both. */
const OURS = 1;
const THEIRS = 2;
const BOTH = OURS | THEIRS;
const BELOW = 4;

/** Versions that are read at most: some megabytes of memory. */
const READ_LIMIT = 20_000;

interface Node {
  readonly id: Digest;
  readonly time: string;
  readonly parents: readonly Digest[];
  flags: number;
  queued: boolean;
}

/**
 * The best common ancestors of two versions: those that both lead to, and that lead to no other such version. One in most histories, none
 * where they have nothing in common, several where branches were merged into each other crosswise. Newest first.
 *
 * Walks both histories from the newest on until what is left leads to common ancestors only, as `git merge-base` does; clocks that were
 * wrong cost reads, never the result. A version that the repository does not have (it was collected, or left out of a copy) ends its history.
 * @param options.limit versions read at most; an InvalidError where that is not enough
 */
export async function findMergeBases(
  repository: Repository,
  ours: Digest,
  theirs: Digest,
  { limit = READ_LIMIT, signal }: { readonly limit?: number; readonly signal?: AbortSignal } = {},
): Promise<Version[]> {
  const nodes = new Map<Digest, Node | undefined>();
  /** Oldest first. */
  const queue: Node[] = [];
  /** Of those in the queue, how many may still lead to something new. */
  let open = 0;

  const add = async (id: Digest, flags: number): Promise<void> => {
    if (!nodes.has(id)) {
      if (nodes.size >= limit)
        throw new InvalidError(
          `no common ancestor was found among the last ${limit} versions before ${ours} and ${theirs}: say with --base which version to compare both with`,
          { facts: { ours, theirs, read: nodes.size } },
        );
      nodes.set(id, await read(id));
    }
    const node = nodes.get(id);
    if (node === undefined || (node.flags | flags) === node.flags) return;
    if (node.queued && (node.flags & BELOW) === 0) open--;
    node.flags |= flags;
    if ((node.flags & BELOW) === 0) open++;
    if (node.queued) return;
    node.queued = true;
    let at = queue.length;
    while (at > 0 && queue[at - 1]!.time > node.time) at--;
    queue.splice(at, 0, node);
  };
  const read = async (id: Digest): Promise<Node | undefined> => {
    const version = await findVersion(repository, id, signal);
    return version && { id, time: version.time, parents: version.parents, flags: 0, queued: false };
  };

  await add(ours, OURS);
  await add(theirs, THEIRS);
  const found = new Set<Node>();
  const best = () => [...found].filter(({ flags }) => (flags & BELOW) === 0);
  while (queue.length > 0 && (open > 0 || best().length > 1)) {
    signal?.throwIfAborted();
    const node = queue.pop()!;
    node.queued = false;
    if ((node.flags & BELOW) === 0) open--;
    const isCommon = (node.flags & BOTH) === BOTH;
    if (isCommon && (node.flags & BELOW) === 0) found.add(node);
    for (const parent of node.parents) await add(parent, isCommon ? node.flags | BELOW : node.flags);
  }
  const bases = await Promise.all(best().map(({ id }) => readVersion(repository, id, signal)));
  return bases.sort((a, b) => (a.time < b.time ? 1 : a.time > b.time ? -1 : a.id < b.id ? -1 : 1));
}
