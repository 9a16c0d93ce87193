import { guardPublish } from '../dataset/collect/guard.ts';
import { type Digest, shortId } from '../dataset/digest.ts';
import { ConflictError } from '../dataset/errors.ts';
import { log } from '../dataset/history.ts';
import { moveBranch, readBranch, writeTag } from '../dataset/refs.ts';
import type { Repository } from '../dataset/repository.ts';
import { readVersion, writeVersion } from '../dataset/version.ts';
import type { SnapshotAbout } from './snapshot.ts';

/** How far back a branch's head is looked for in a snapshot's history. */
const RECENT_VERSIONS = 1000;

/** What a version says that is made of a volume where nobody says anything. */
export const DEFAULT_AUTHOR = 'larder';

export function defaultMessage(snapshot: { readonly name: string; readonly volumeName: string }): string {
  return `snapshot ${snapshot.name} of volume ${snapshot.volumeName}`;
}

/**
 * Gives a snapshot's version the names that were asked for; those that it has already are no error.
 * Errors: ConflictError where the tag is another version's, or the branch is ahead of the version or beside it.
 */
export async function nameVersion(
  repository: Repository,
  dataset: string,
  version: Digest,
  { tag, branch }: Pick<SnapshotAbout, 'tag' | 'branch'>,
): Promise<void> {
  if (tag !== undefined) await writeTag(repository, dataset, tag, { version });
  if (branch !== undefined) await moveForward(repository, dataset, branch, version);
}

/**
 * Moves a branch to a version that its head led to, or makes it.
 * Errors: ConflictError where the version does not follow on the head.
 */
export async function moveForward(
  repository: Repository,
  dataset: string,
  branch: string,
  version: Digest,
): Promise<void> {
  const head = await readBranch(repository, dataset, branch);
  if (head?.version === version) return;
  if (head !== undefined && !(await isBefore(repository, head.version, version)))
    throw new ConflictError(
      `branch '${branch}' of '${dataset}' is at ${shortId(head.version)}, on which ${shortId(version)} does not follow: give it another branch, and bring that in with 'larder merge'`,
      { facts: { dataset, branch, version: head.version } },
    );
  await moveBranch(repository, dataset, branch, { expect: head ?? 'absent', version });
}

async function isBefore(repository: Repository, earlier: Digest, version: Digest): Promise<boolean> {
  let looked = 0;
  for await (const { id } of log(repository, version)) {
    if (id === earlier) return true;
    looked += 1;
    if (looked === RECENT_VERSIONS) return false;
  }
  return false;
}

/**
 * A version with the same content that says something of its own.
 * @returns its id
 */
export async function describedVersion(
  repository: Repository,
  id: Digest,
  about: Pick<SnapshotAbout, 'message' | 'author' | 'meta'>,
): Promise<Digest> {
  const { root, parents, author, message, meta, entries, bytes } = await readVersion(repository, id);
  const fields = {
    root,
    parents,
    author: about.author ?? author,
    message: about.message ?? message,
    meta: { ...meta, ...about.meta },
    entries,
    bytes,
  };
  const what = [{ root }, ...parents.map((version) => ({ version }))];
  return (await guardPublish(repository, what, () => writeVersion(repository, fields))).id;
}
