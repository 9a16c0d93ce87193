import { shortId } from '../dataset/digest.ts';
import { InvalidError, NotFoundError } from '../dataset/errors.ts';
import { readBranch, resolveName } from '../dataset/refs.ts';
import type { Repository } from '../dataset/repository.ts';
import type { NodeObserver } from './nodes.ts';
import { sourceName } from './parameters.ts';
import type { Volume } from './volume.ts';

/** How a volume does, as far as its record, its dataset and the heartbeats of nodes tell. */
export interface RecordCondition {
  /** What it is and who has it, in words. */
  readonly summary: string;
  /** What a person should look at; empty where all is well. */
  readonly problems: readonly Problem[];
}

export interface Problem {
  readonly reason: ProblemReason;
  /** What is the matter, and what to do. */
  readonly message: string;
}

export type ProblemReason =
  /** The node that holds the workspace gives no signs of life. */
  | 'holder-lost'
  /** Branches have changes of nodes that did not hold the workspace any more. */
  | 'changes-set-aside'
  /** The branch or tag that the volume follows is gone. */
  | 'reference-gone';

/**
 * Looks at a volume from where no node is asked.
 * Errors: UnavailableError.
 */
export async function conditionOf(
  repository: Repository,
  volume: Volume,
  nodes: Pick<NodeObserver, 'look'>,
): Promise<RecordCondition> {
  const problems = await Promise.all([
    holderLost(volume, nodes),
    changesSetAside(repository, volume),
    referenceGone(repository, volume),
  ]);
  return { summary: summaryOf(volume), problems: problems.filter((each) => each !== undefined) };
}

async function holderLost(volume: Volume, nodes: Pick<NodeObserver, 'look'>): Promise<Problem | undefined> {
  const { holder } = volume;
  if (holder === undefined || (await nodes.look(holder)) > 0) return undefined;
  const message =
    `node ${holder.node} has had it since ${holder.since}, and gives no signs of life; ${savedWords(volume)}. ` +
    'It goes on from there on whichever node stages it next; what that node had not saved is set aside as a branch if it comes back';
  return { reason: 'holder-lost', message };
}

/** Branches that somebody merged and deleted are no matter any more. */
async function changesSetAside(repository: Repository, { dataset, aside = [] }: Volume): Promise<Problem | undefined> {
  const found = await Promise.all(
    aside.map(async (branch) => ((await readBranch(repository, dataset, branch)) === undefined ? [] : [branch])),
  );
  const branches = found.flat();
  if (branches.length === 0) return undefined;
  const names = branches.map((branch) => `${dataset}@${branch}`).join(', ');
  const message =
    `a node had changes to it that it did not hold any more: they are kept as ${names}; ` +
    "look with 'larder diff', merge what is wanted, and delete the branch";
  return { reason: 'changes-set-aside', message };
}

async function referenceGone(repository: Repository, volume: Volume): Promise<Problem | undefined> {
  const { dataset, ref, version, settings } = volume;
  if (!settings.follow) return undefined;
  const name = sourceName({ dataset, ...(ref !== undefined && { ref }) });
  try {
    await resolveName(repository, name);
    return undefined;
  } catch (error) {
    // Where the branch is gone, its name may be the beginning of several versions.
    if (!(error instanceof NotFoundError || error instanceof InvalidError)) throw error;
    const message =
      `it follows ${name}, which is gone: pods that run keep version ${shortId(version)}, and no node can stage it anew; ` +
      'make the branch again, or modify the parameter "version" or "follow"';
    return { reason: 'reference-gone', message };
  }
}

function summaryOf(volume: Volume): string {
  const { kind, dataset, version, ref, settings, holder } = volume;
  const what = `version ${shortId(version)} of ${dataset}`;
  if (kind === 'pinned') {
    if (settings.follow)
      return `${what}, found at ${ref ?? 'main'} when it was looked up last; the next stage looks again`;
    return what;
  }
  if (holder === undefined) return `a workspace with ${what}, on no node; ${savedWords(volume)}`;
  if (holder.unsaved) return `a workspace with ${what}; node ${holder.node} is saving its last changes`;
  return `a workspace with ${what}, on node ${holder.node} since ${holder.since}; ${savedWords(volume)}`;
}

function savedWords({ savedAt }: Volume): string {
  return savedAt === undefined ? 'no changes were saved' : `changes were saved last at ${savedAt}`;
}
