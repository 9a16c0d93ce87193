import { storeTime } from './collect/clock.ts';
import { type Amounts, condemn, type Plan, planCollection } from './collect/condemn.ts';
import { removeLeftovers } from './collect/leftovers.ts';
import type { MarkProgress } from './collect/mark.ts';
import { type GcState, readState } from './collect/state.ts';
import { LEASE, type SweepResult, sweep } from './collect/sweep.ts';
import { ConflictError, InvalidError } from './errors.ts';
import type { Repository } from './repository.ts';
import { checkRules, type KeepRules } from './retention.ts';

export type { Amounts, Plan } from './collect/condemn.ts';
export type { SweepResult } from './collect/sweep.ts';

/** What is younger is left alone, and what is condemned waits as long, in milliseconds. */
export const DEFAULT_GRACE = 24 * 60 * 60_000;
/** Packs of which less than this part is needed are written anew. */
export const REPACK_BELOW = 0.5;

export interface CollectOptions {
  readonly repository: Repository;
  /** In milliseconds, by the store's clock; `DEFAULT_GRACE` if not said. Longer than the longest import, or that may have to be done again. */
  readonly grace?: number;
  /** Only say what would be condemned. */
  readonly dryRun?: boolean;
  /** Write packs anew that are mostly of no use; true if not said. */
  readonly repack?: boolean;
  /** How much of branches' histories stays; all of it if not said. */
  readonly keep?: KeepRules;
  readonly onProgress?: (progress: CollectProgress) => void;
  readonly signal?: AbortSignal;
  /** Where sorted runs are kept; the system's temporary directory if not said. */
  readonly temporary?: string;
  /** For tests: how long a sweep waits for names that are being written, and how long a silent collector is left alone, in milliseconds. */
  readonly timing?: { readonly settle?: number; readonly lease?: number };
}

export interface CollectProgress {
  readonly phase: 'marking' | 'deleting';
  readonly versions: number;
  readonly segments: number;
  readonly deleted: number;
  readonly bytes: number;
}

export interface CollectResult {
  /** What was deleted, where a sweep was due. */
  readonly swept?: SweepResult;
  /** What was condemned, or would be; absent where what was condemned before is not yet due. */
  readonly plan?: Plan;
  /** What waits to be deleted, and from when on it may be, in milliseconds since 1970 by the store's clock. */
  readonly waiting?: { readonly amounts: Amounts; readonly due: number };
}

/**
 * One step of a collection, whichever is due: deletes what an earlier call condemned, if nothing names it since and the grace period is over; then
 * condemns what nothing leads to. So two calls, a grace period apart, free what was not needed at the first. Safe beside everything that goes
 * through Larder: docs/decisions/collection.md.
 *
 * A ConflictError where another collection is at work; a CorruptError where something that is needed is missing or cannot be read: then nothing is deleted.
 */
export async function collect(options: CollectOptions): Promise<CollectResult> {
  const {
    repository,
    grace = DEFAULT_GRACE,
    dryRun = false,
    repack = true,
    keep,
    signal,
    temporary,
    timing = {},
  } = options;
  if (!Number.isSafeInteger(grace) || grace < 0) throw new InvalidError(`a grace period of ${grace} ms is none`);
  const rules = keep !== undefined && Object.values(keep).some((count) => count !== undefined) ? keep : undefined;
  if (rules !== undefined) checkRules(rules);
  const report = (progress: MarkProgress & { deleted?: number; bytes?: number }) => {
    const { versions, segments, deleted = 0, bytes = 0 } = progress;
    options.onProgress?.({ phase: deleted > 0 ? 'deleting' : 'marking', versions, segments, deleted, bytes });
  };
  const common = { repository, rules, temporary, signal, onProgress: report };
  const repackBelow = repack ? REPACK_BELOW : undefined;

  let state = await readState(repository, signal);
  if (dryRun) {
    const plan = await planCollection({ ...common, now: Date.now(), grace, repackBelow });
    return { plan, waiting: waitingOf(state, state.modified) };
  }
  let swept: SweepResult | undefined;
  if (state.phase !== 'idle') {
    const now = await storeTime(repository, signal);
    const { condemned } = state;
    if (state.phase === 'condemned' && now < state.modified + condemned!.grace)
      return { waiting: waitingOf(state, state.modified) };
    if (state.phase === 'sweeping' && now < state.modified + (timing.lease ?? LEASE))
      throw new ConflictError(
        `another collection of ${repository.location} is deleting; wait until it is done. If it was killed, 'larder collect' goes on with its work from ` +
          `${new Date(state.modified + (timing.lease ?? LEASE)).toISOString()} on`,
        { facts: { repository: repository.location } },
      );
    swept = await sweep({ ...common, now, settle: timing.settle }, state);
    state = await readState(repository, signal);
    if (state.phase !== 'idle') return { swept, waiting: waitingOf(state, state.modified) };
  }
  const now = await storeTime(repository, signal);
  await removeLeftovers(repository, now - grace, signal);
  try {
    const { plan, state: condemned } = await condemn({ ...common, now, grace, repackBelow }, state);
    return { swept, plan, waiting: waitingOf(condemned, now) };
  } catch (error) {
    // Somebody else condemned first; what this call swept is done all the same.
    if (!(error instanceof ConflictError) || swept === undefined) throw error;
    const other = await readState(repository, signal);
    return { swept, waiting: waitingOf(other, other.modified) };
  }
}

function waitingOf({ condemned }: GcState, since: number): CollectResult['waiting'] {
  return condemned && { amounts: condemned.amounts, due: since + condemned.grace };
}
