import { markSweeps } from './collect/guard.ts';
import { type CommitResult, commitChanges } from './commit.ts';
import { type Digest, shortId } from './digest.ts';
import { InvalidError } from './errors.ts';
import { type PlanOptions, planMerge, unsettledError } from './merge/plan.ts';
import { requireBranch } from './merge.ts';
import { refuseProtected } from './refs.ts';
import type { Repository } from './repository.ts';
import { readVersion, type Version } from './version.ts';

export interface RevertOptions extends PlanOptions {
  readonly repository: Repository;
  readonly dataset: string;
  readonly branch: string;
  /** Whose change is undone. */
  readonly version: Digest;
  /** Of a merge: which parent, counted from 1, it is undone towards. */
  readonly parent?: number;
  readonly author: string;
  /** One that tells what is reverted, if not said. */
  readonly message?: string;
  readonly meta?: Readonly<Record<string, string>>;
  /** Only find out what would change, and what is in conflict. */
  readonly dryRun?: boolean;
}

export interface RevertResult {
  /** `unchanged`: nothing of that change is left in the branch, and no version was made. */
  readonly outcome: 'reverted' | 'unchanged';
  /** What the branch is at now; undefined in a dry run. */
  readonly version: Version | undefined;
  readonly reverted: Digest;
  /** The parent that it was undone towards. */
  readonly towards: Digest;
  readonly changes: number;
  readonly conflicts: number;
  readonly stored?: CommitResult['stored'];
}

/**
 * Undoes on a branch what a version changed, wherever in its history: a merge of the version's parent, with the version itself as what both
 * sides began from. What changed since then stays; a path that was changed again since is a conflict, as in a merge.
 *
 * A ConflictError where paths are in conflict that nobody chose for, or where the branch is protected or moved meanwhile.
 */
export async function revertVersion(options: RevertOptions): Promise<RevertResult> {
  const { repository, dataset, branch, author, meta, dryRun = false, signal } = options;
  const since = await markSweeps(repository, signal);
  const ref = await requireBranch(repository, dataset, branch);
  if (!dryRun) refuseProtected(dataset, branch, ref);
  const [head, version] = await Promise.all([
    readVersion(repository, ref.version, signal),
    readVersion(repository, options.version, signal),
  ]);
  const towards = parentOf(version, options.parent);
  const parent = await readVersion(repository, towards, signal);
  const trees = { bases: [version.root], ours: head.root, theirs: parent.root };
  const plan = await planMerge(repository, trees, options);
  const { changes, conflicts } = plan;
  const result = { reverted: version.id, towards, changes, conflicts };
  if (plan.unsettled > 0) {
    const what = `version ${shortId(version.id)} cannot be undone on branch '${branch}' of dataset '${dataset}'`;
    throw unsettledError(what, plan, { dataset, branch, ours: head.id, reverted: version.id });
  }
  if (dryRun) return { ...result, outcome: changes === 0 ? 'unchanged' : 'reverted', version: undefined };
  const committed = await commitChanges({
    repository,
    dataset,
    branch,
    base: head,
    head: { ref },
    changes: plan.entryChanges(),
    since,
    author,
    message: options.message ?? messageOf(version),
    meta,
    signal,
  });
  const outcome = committed.outcome === 'unchanged' ? 'unchanged' : 'reverted';
  return { ...result, outcome, version: committed.version, stored: committed.stored };
}

function parentOf({ id, parents }: Version, number: number | undefined): Digest {
  if (parents.length === 0)
    throw new InvalidError(`version ${shortId(id)} is a first version: there is nothing before it to go back to`, {
      facts: { version: id },
    });
  if (number === undefined && parents.length > 1)
    throw new InvalidError(
      `version ${shortId(id)} is a merge: say with --parent which one to go back to (${parents.map((parent, i) => `${i + 1} is ${shortId(parent)}`).join(', ')})`,
      { facts: { version: id, parents: parents.length } },
    );
  const parent = parents[(number ?? 1) - 1];
  if (parent === undefined)
    throw new InvalidError(`version ${shortId(id)} has ${parents.length} parents, and no parent ${number}`, {
      facts: { version: id, parents: parents.length },
    });
  return parent;
}

function messageOf({ id, message }: Version): string {
  const [subject] = message.split('\n', 1);
  return `Revert ${subject === '' ? `version ${shortId(id)}` : `"${subject}"`}\n\nThis reverts version ${id}.`;
}
