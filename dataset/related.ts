import type { Digest } from './digest.ts';
import { NotFoundError } from './errors.ts';
import type { Repository } from './repository.ts';
import { readVersion } from './version.ts';

/** Versions that are read at most. */
const READS = 100;

/**
 * Whether a version may belong to the history that `heads` lead to: it is in it, or has an ancestor in it. False only where both
 * histories were seen to their beginnings and have nothing in common; where that takes too many reads, or a part of them was collected, nobody
 * can tell and it may.
 */
export async function mayBeRelated(
  repository: Repository,
  heads: readonly Digest[],
  version: Digest,
  signal?: AbortSignal,
): Promise<boolean> {
  const known = [new Set(heads), new Set([version])] as const;
  if (known[0].has(version)) return true;
  let frontiers: readonly [readonly Digest[], readonly Digest[]] = [[...known[0]], [version]];
  let left = READS;
  while (frontiers[0].length + frontiers[1].length > 0) {
    left -= frontiers[0].length + frontiers[1].length;
    if (left < 0) return true;
    const next: [Digest[], Digest[]] = [[], []];
    for (const side of [0, 1] as const) {
      const parents = await Promise.all(frontiers[side].map((id) => parentsOf(repository, id, signal)));
      for (const parent of parents.flat()) {
        if (parent === undefined) return true;
        if (known[1 - side]!.has(parent)) return true;
        if (known[side].has(parent)) continue;
        known[side].add(parent);
        next[side].push(parent);
      }
    }
    frontiers = next;
  }
  return false;
}

/** Holds undefined where the version is not there. */
async function parentsOf(
  repository: Repository,
  id: Digest,
  signal: AbortSignal | undefined,
): Promise<readonly (Digest | undefined)[]> {
  try {
    return (await readVersion(repository, id, signal)).parents;
  } catch (error) {
    if (error instanceof NotFoundError) return [undefined];
    throw error;
  }
}
