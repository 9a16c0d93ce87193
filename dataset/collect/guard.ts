import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '../digest.ts';
import { LarderError, NotFoundError, UnavailableError } from '../errors.ts';
import { canonicalJson } from '../format/canonical-json.ts';
import { versionKey } from '../keys.ts';
import type { Repository } from '../repository.ts';
import { readShallow } from '../shallow.ts';
import { readVersion } from '../version.ts';
import { findMissing } from './audit.ts';
import { readState, type StoredState } from './state.ts';

/*
 * Publishing beside a collection. The protocol and why it loses nothing: docs/decisions/collection.md. In short: a sweeper first says that
 * it sweeps, waits `SETTLE`, then reads names and reprieves, and reads the reprieves again at the beginning of each turn of deletions.
 * A writer looks at the state just before it gives something a name. If nobody sweeps, and the name is there within `QUICK`, the sweeper that
 * comes will see the name. If somebody sweeps, the writer first writes a reprieve, which every later turn sees, and then looks whether
 * an earlier turn took something.
 */

/** How long a sweeper waits before it reads names, in milliseconds. */
export const SETTLE = 3_000;
/** How long a name may take without a second look, in milliseconds; less than `SETTLE`, by more than clocks go wrong in that time. */
const QUICK = 2_000;
/** How often it is looked whether a turn is over, and how long at most, in milliseconds. */
const POLL = 200;
const PATIENCE = 120_000;

export const REPRIEVES = 'gc/reprieves/';

/** How far deletions were at some moment. */
export type SweepMark = Pick<StoredState, 'phase' | 'turn' | 'deleting'>;

/** To be asked before a writer relies on anything that it finds stored: whether anything is deleted from here on can then be told. */
export async function markSweeps(repository: Pick<Repository, 'bucket'>, signal?: AbortSignal): Promise<SweepMark> {
  const { phase, turn, deleting } = await readState(repository, signal);
  return { phase, turn, deleting };
}

/** What a name will lead to: a version that is stored, or one that is not yet, by its manifest's root. */
export type Publication = { readonly version: Digest } | { readonly root: Digest };

export interface GuardOptions {
  /** What `markSweeps` gave before anything of it was found stored. Without it, nothing of it was found before now. */
  readonly since?: SweepMark;
  /** Takes the name away again, where the name took long and the version turned out not to be whole. */
  readonly undo?: () => Promise<void>;
  readonly signal?: AbortSignal;
}

/**
 * Gives a version a name (or whatever else keeps it) by `publish`, so that no collection deletes anything of it. Every writer of a branch, a tag
 * or a record that pins a version comes through here.
 *
 * An UnavailableError tells that a collection has deleted parts of it meanwhile; then `publish` was not called, or undone: storing it again
 * stores what is gone. A NotFoundError where there is no such version.
 */
export async function guardPublish<T>(
  repository: Repository,
  what: readonly Publication[],
  publish: () => Promise<T>,
  options: GuardOptions = {},
): Promise<T> {
  const { signal, undo } = options;
  let clock = startClock();
  // A version is the first of its parts to be deleted, and is written last: while nobody sweeps, one that is there is whole.
  const look = () => Promise.all(what.map((each) => ('version' in each ? hasVersion(repository, each, signal) : true)));
  let state: StoredState;
  let present: boolean[];
  [state, present] = await Promise.all([readState(repository, signal), look()]);
  const isQuiet = state.phase !== 'sweeping' && isStill(options.since ?? state, state);
  if (!isQuiet) {
    state = await secure(repository, what, options.since, signal);
    clock = startClock();
  } else {
    // The two looks are one moment, unless one of them took long.
    if (clock() >= QUICK) present = await look();
    for (const [at, each] of what.entries()) if (!present[at]) throw noVersion(repository, each);
  }
  const result = await publish();
  if (clock() < QUICK) return result;
  const after = await readState(repository, signal);
  if (after.phase !== 'sweeping' && isStill(state, after)) return result;
  try {
    await secure(repository, what, state, signal);
  } catch (error) {
    await undo?.();
    throw error;
  }
  return result;
}

/** Whether nothing was deleted between two looks. */
function isStill(before: SweepMark, after: SweepMark): boolean {
  return !before.deleting && before.turn === after.turn;
}

/** Sees to it that no turn from here on deletes any of it, and that none before has. */
async function secure(
  repository: Repository,
  what: readonly Publication[],
  since: SweepMark | undefined,
  signal: AbortSignal | undefined,
): Promise<StoredState> {
  // Never the same twice: a sweeper that has heard one before takes it for a new one.
  const reprieve = Buffer.from(canonicalJson({ format: 1, id: randomUUID() }));
  await Promise.all(what.map((each) => repository.bucket.put(reprieveKey(each), reprieve, { signal })));
  const first = await readState(repository, signal);
  let state = first;
  const end = performance.now() + PATIENCE;
  // The turn that is under way may have begun before the reprieve was written. The next one has not.
  while (state.deleting && state.turn === first.turn) {
    if (performance.now() > end)
      throw new UnavailableError(
        `a collection of ${repository.location} began to delete and does not come to its end: run 'larder collect' to finish it, then try again`,
        { facts: { repository: repository.location } },
      );
    await sleep(POLL, undefined, { signal });
    state = await readState(repository, signal);
  }
  if (since !== undefined && isStill(since, first)) return state;
  for (const each of what) {
    const missing = await missingOf(repository, each, signal);
    if (missing === undefined) continue;
    throw new UnavailableError(
      `a collection of ${repository.location} has deleted what this version needs while it was made (${missing}): do the same again, which stores it anew`,
      { facts: { object: missing, collected: true, ...each } },
    );
  }
  return state;
}

/** The key of an object that is gone and that a version needs, or its ancestors. */
async function missingOf(
  repository: Repository,
  what: Publication,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  if ('root' in what) return await findMissing(repository, what.root, signal);
  const waiting: Digest[] = [what.version];
  const seen = new Set(waiting);
  const shallow = await readShallow(repository, signal);
  for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
    try {
      const { root, parents } = await readVersion(repository, id, signal);
      // An ancestor that is there is whole: nothing of it was deleted before it.
      const missing = id === what.version ? await findMissing(repository, root, signal) : undefined;
      if (missing !== undefined) return missing;
      if (shallow.has(id)) continue;
      for (const parent of parents) {
        if (seen.has(parent)) continue;
        seen.add(parent);
        waiting.push(parent);
      }
    } catch (error) {
      if (error instanceof NotFoundError) return versionKey(id);
      throw error;
    }
  }
  return undefined;
}

async function hasVersion(
  repository: Repository,
  { version }: { readonly version: Digest },
  signal: AbortSignal | undefined,
): Promise<boolean> {
  return (await repository.bucket.head(versionKey(version), signal)) !== undefined;
}

function noVersion(repository: Repository, what: Publication): NotFoundError {
  const version = 'version' in what ? what.version : what.root;
  return new NotFoundError(
    `version ${version} is not in the repository ${repository.location}; a version that no name leads to is collected after a while`,
    { facts: { version } },
  );
}

function reprieveKey(what: Publication): string {
  return 'root' in what ? `${REPRIEVES}root-${what.root}` : `${REPRIEVES}version-${what.version}`;
}

/** Whether an error of `guardPublish` says that a collection took parts: the same work done again mends it. */
export function isCollected(error: unknown): boolean {
  return error instanceof LarderError && error.facts.collected === true;
}

/** Milliseconds since now; one of these clocks stands still while the machine sleeps, and the other may be set. */
function startClock(): () => number {
  const steady = performance.now();
  const wall = Date.now();
  return () => Math.max(performance.now() - steady, Math.abs(Date.now() - wall));
}
