import { markSweeps } from './collect/guard.ts';
import { type CommitResult, commitChanges } from './commit.ts';
import { type Digest, shortId } from './digest.ts';
import { InvalidError, NotFoundError } from './errors.ts';
import { findMergeBases } from './merge/base.ts';
import { type PlanOptions, planMerge, unsettledError } from './merge/plan.ts';
import { moveBranch, readBranch, type StoredRef } from './refs.ts';
import type { Repository } from './repository.ts';
import { type Origin, readVersion, type Version } from './version.ts';

export type { Choices } from './merge/choices.ts';
export type { ConflictKind, Side } from './merge/entries.ts';
export type { PlanProgress } from './merge/plan.ts';
export type { Conflict } from './merge/three-way.ts';

export interface MergeOptions extends PlanOptions {
  readonly repository: Repository;
  readonly dataset: string;
  /** The branch that is merged into, and moves. */
  readonly branch: string;
  /** The version that is merged: of any dataset, since a repository's content is visible to all of its datasets. */
  readonly theirs: Digest;
  /** The version that both sides are compared with, where it is not to be found by their histories. */
  readonly base?: Digest;
  /** Merge versions that have no ancestor in common as if both had begun from nothing. */
  readonly unrelated?: boolean;
  /** Move the branch to the version, without a new one, where the branch's head led to it; true if not said. */
  readonly fastForward?: boolean;
  readonly author: string;
  readonly message: string;
  readonly meta?: Readonly<Record<string, string>>;
  readonly from?: readonly Origin[];
  /** Only find out what would change, and what is in conflict. */
  readonly dryRun?: boolean;
}

export interface MergeResult {
  /**
   * `up-to-date`: the branch has all of theirs already. `fast-forward`: the branch is now at their version. `merged`: at a new one, whose
   * parents are both. In a dry run, what would be.
   */
  readonly outcome: 'up-to-date' | 'fast-forward' | 'merged';
  /** What the branch is at now; undefined for a new version in a dry run. */
  readonly version: Version | undefined;
  readonly ours: Digest;
  readonly theirs: Digest;
  /** The common ancestors that both were compared with, newest first. */
  readonly bases: readonly Digest[];
  /** Paths of ours that changed, and those that were in conflict and settled by choice. */
  readonly changes: number;
  readonly conflicts: number;
  readonly stored?: CommitResult['stored'];
}

/**
 * Merges a version into a branch, path by path: what only one side changed since their common ancestor is as that side has it. Reads those
 * segments of the manifests that differ, and no file.
 *
 * A ConflictError where paths are in conflict that nobody chose for (each was given to `onConflict` before), or where the branch moved
 * meanwhile; then nothing has changed.
 *
 * There may be several best common ancestors, as after merges crosswise. A path is compared with each of them; it is a conflict where they lead to
 * different results, or none to one.
 */
export async function mergeVersions(options: MergeOptions): Promise<MergeResult> {
  const { repository, dataset, branch, theirs, dryRun = false, fastForward = true, signal } = options;
  const { author, message, meta, from } = options;
  const since = await markSweeps(repository, signal);
  const ref = await requireBranch(repository, dataset, branch);
  const [head, other] = await Promise.all([
    readVersion(repository, ref.version, signal),
    readVersion(repository, theirs, signal),
  ]);
  const bases = await basesOf(options, head, other);
  const result = { ours: head.id, theirs, bases: bases.map(({ id }) => id), changes: 0, conflicts: 0 };
  if (bases.some(({ id }) => id === theirs)) return { ...result, outcome: 'up-to-date', version: head };
  if (fastForward && options.base === undefined && bases.some(({ id }) => id === head.id)) {
    if (!dryRun) await moveBranch(repository, dataset, branch, { expect: ref, version: theirs, via: 'merge', since });
    return { ...result, outcome: 'fast-forward', version: other };
  }
  const trees = { bases: bases.map(({ root }) => root), ours: head.root, theirs: other.root };
  const plan = await planMerge(repository, trees, options);
  const { changes, conflicts } = plan;
  if (plan.unsettled > 0) {
    const what = `version ${shortId(theirs)} does not merge into branch '${branch}' of dataset '${dataset}'`;
    throw unsettledError(what, plan, { dataset, branch, ours: head.id, theirs, base: bases[0]?.id });
  }
  if (dryRun) return { ...result, outcome: 'merged', version: undefined, changes, conflicts };
  const { version, stored } = await commitChanges({
    repository,
    dataset,
    branch,
    base: head,
    head: { ref },
    parents: [head.id, theirs],
    changes: plan.entryChanges(),
    via: 'merge',
    always: true,
    since,
    author,
    message,
    meta,
    from,
    signal,
  });
  return { ...result, outcome: 'merged', version, changes, conflicts, stored };
}

/** A branch's head, to be changed; a NotFoundError that tells how to make one. */
export async function requireBranch(repository: Repository, dataset: string, branch: string): Promise<StoredRef> {
  const ref = await readBranch(repository, dataset, branch);
  if (ref !== undefined) return ref;
  throw new NotFoundError(
    `dataset '${dataset}' has no branch '${branch}': 'larder branch list ${dataset}' shows what it has, and 'larder branch create' makes one`,
    { facts: { dataset, branch } },
  );
}

async function basesOf({ repository, base, unrelated, signal }: MergeOptions, ours: Version, theirs: Version) {
  if (base !== undefined) return [await readVersion(repository, base, signal)];
  const bases = await findMergeBases(repository, ours.id, theirs.id, { signal });
  if (bases.length > 0 || unrelated === true) return bases;
  throw new InvalidError(
    `versions ${shortId(ours.id)} and ${shortId(theirs.id)} have no ancestor in common: say with --base what to compare both with, or merge ` +
      'them with --unrelated as if both had begun from nothing',
    { facts: { ours: ours.id, theirs: theirs.id } },
  );
}
