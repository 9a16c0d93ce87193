import type { ByteString } from '../byte-string.ts';
import { textOf } from '../byte-string.ts';
import { ConflictError } from '../errors.ts';
import type { EntryChange } from '../manifest.ts';
import type { Repository } from '../repository.ts';
import { type Choices, chooser } from './choices.ts';
import { MergedLinkGroups } from './link-groups.ts';
import { type Conflict, type MergedTrees, mergeTrees } from './three-way.ts';

/** Changes that are kept in memory between looking for conflicts and making them; more are found again. */
const KEPT_CHANGES = 20_000;
/** Parts of large files among them. */
const KEPT_PARTS = 200_000;
/** Paths that an error names. */
const NAMED = 5;
const BATCH = 512;

export interface PlanOptions extends Choices {
  /** Told of each conflict as it is found, in path order; waited for where it gives a promise. */
  readonly onConflict?: (conflict: Conflict) => void | Promise<void>;
  readonly onProgress?: (progress: PlanProgress) => void;
  readonly signal?: AbortSignal;
}

export interface PlanProgress {
  /** Changes to ours found so far. */
  readonly changes: number;
  readonly conflicts: number;
}

/** How ours becomes the merged tree. */
export interface MergePlan extends PlanProgress {
  /** Conflicts that nobody chose for; the first of their paths. */
  readonly unsettled: number;
  readonly unsettledPaths: readonly ByteString[];
  /** The changes to make to ours, in path order; may be asked for again. */
  entryChanges(): AsyncGenerator<readonly EntryChange[]>;
}

/** Finds out what a merge changes, and what is in conflict. Nothing is written. */
export async function planMerge(
  repository: Repository,
  trees: MergedTrees,
  { onConflict, onProgress, signal, ...choices }: PlanOptions,
): Promise<MergePlan> {
  const choose = chooser(choices);
  const groups = new MergedLinkGroups(repository, trees.ours, trees.theirs);
  const unsettledPaths: ByteString[] = [];
  let [changes, conflicts, unsettled, parts] = [0, 0, 0, 0];
  let kept: EntryChange[] | undefined = [];
  for await (const step of mergeTrees(repository, trees, { choose, onOurs: (each) => groups.note(each), signal })) {
    if (step.kind === 'conflict') {
      conflicts++;
      if (step.conflict.taken === undefined && ++unsettled <= NAMED) unsettledPaths.push(step.conflict.path);
      await onConflict?.(step.conflict);
    } else {
      changes++;
      parts += partsOf(step.change);
      if (changes > KEPT_CHANGES || parts > KEPT_PARTS || unsettled > 0) kept = undefined;
      kept?.push(step.change);
    }
    onProgress?.({ changes, conflicts });
  }
  async function* found(): AsyncGenerator<EntryChange> {
    for await (const step of mergeTrees(repository, trees, { choose, signal }))
      if (step.kind === 'change') yield step.change;
  }
  return {
    changes,
    conflicts,
    unsettled,
    unsettledPaths,
    async *entryChanges() {
      let batch: EntryChange[] = [];
      for await (const change of kept ?? found()) {
        batch.push(change.kind === 'put' ? { ...change, entry: await groups.regroup(change.entry, signal) } : change);
        if (batch.length < BATCH) continue;
        yield batch;
        batch = [];
      }
      if (batch.length > 0) yield batch;
    },
  };
}

/** What to do about conflicts that nobody chose for. */
export function unsettledError(what: string, plan: MergePlan, facts: ConflictError['facts']): ConflictError {
  const { unsettled, unsettledPaths } = plan;
  const rest = unsettled - unsettledPaths.length;
  const named = unsettledPaths.map((path) => `'${path === '' ? '.' : textOf(path)}'`).join(', ');
  return new ConflictError(
    `${what}: ${unsettled === 1 ? 'a path was' : `${unsettled} paths were`} changed on both sides: ${named}${rest > 0 ? ` and ${rest} more` : ''}; ` +
      'choose with --take PATH=ours or --take PATH=theirs, or for all of them with --ours or --theirs',
    { facts: { ...facts, conflicts: unsettled } },
  );
}

function partsOf(change: EntryChange): number {
  if (change.kind === 'delete' || change.entry.type !== 'file') return 0;
  const { content } = change.entry;
  return content.kind === 'chunks' ? content.parts.length : 0;
}
