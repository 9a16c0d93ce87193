import { randomUUID } from 'node:crypto';
import { ConflictError } from '../errors.ts';
import { type Repacked, repackPacks, type ThinPack } from '../repack.ts';
import type { Repository } from '../repository.ts';
import type { KeepRules } from '../retention.ts';
import { listStored, liveBytesOf, markedOf } from './census.ts';
import { ListWriter } from './lists.ts';
import { Marker, type MarkProgress } from './mark.ts';
import { readReprieves, readRoots, readYoungVersions } from './roots.ts';
import { type Amount, COLLECTED, type Collected, type GcState, type StoredState, writeState } from './state.ts';

export type Amounts = { readonly [K in Collected]: Amount };

export interface CondemnOptions {
  readonly repository: Repository;
  /** The time now by the store's clock, in milliseconds since 1970. */
  readonly now: number;
  /** In milliseconds: what was written since so long ago is not looked at. */
  readonly grace: number;
  readonly rules: KeepRules | undefined;
  /** Packs of which less than this part is needed are written anew, without the rest. Undefined: none are. */
  readonly repackBelow: number | undefined;
  readonly temporary?: string;
  readonly onProgress?: (progress: MarkProgress) => void;
  readonly signal?: AbortSignal;
}

export interface Plan {
  /** What nothing leads to, and is old enough to go. */
  readonly condemned: Amounts;
  /** What nothing leads to, and is not old enough. */
  readonly young: Amounts;
  readonly kept: Amounts;
  /** Packs that are mostly of no use: of what is written anew, or would be. */
  readonly repack: Repacked;
}

/** What a collection would condemn now. Writes nothing. */
export async function planCollection(options: CondemnOptions): Promise<Plan> {
  using marker = await markAll(options);
  const { plan } = await survey(options, marker, undefined);
  return plan;
}

/**
 * Condemns what nothing leads to: lists it, and says so in the state. Deletes nothing. Before, packs that are mostly of no use are written anew.
 * A ConflictError where another collection has changed the state meanwhile.
 */
export async function condemn(
  options: CondemnOptions,
  state: StoredState,
): Promise<{ readonly plan: Plan; readonly state: GcState }> {
  const { repository, now, grace, signal } = options;
  using marker = await markAll(options);
  const run = randomUUID();
  const { plan, lists } = await survey(options, marker, run);
  const total = COLLECTED.reduce((sum, kind) => sum + plan.condemned[kind].objects, 0);
  if (total === 0) return { plan, state };
  const condemned = { run, before: now - grace, grace, amounts: lists };
  const next: GcState = { phase: 'condemned', turn: state.turn, deleting: false, condemned };
  try {
    return { plan, state: await writeState(repository, state, next, signal) };
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error;
    throw new ConflictError(
      `another collection of ${repository.location} is at work; this one has changed nothing, and its plan is removed by the next`,
      { cause: error },
    );
  }
}

/** Marks what is to stay. Reprieves are read before names: one goes only after its name is there. */
export async function markAll(
  options: Pick<
    CondemnOptions,
    'repository' | 'now' | 'grace' | 'rules' | 'repackBelow' | 'temporary' | 'onProgress' | 'signal'
  >,
): Promise<Marker> {
  const { repository, now, grace, rules, repackBelow, temporary, onProgress, signal } = options;
  const marker = new Marker(repository, { places: repackBelow !== undefined, temporary, onProgress, signal });
  try {
    const reprieves = await readReprieves(repository, signal);
    await marker.markRoots(readRoots(repository, signal), rules);
    await marker.markLoosely(readYoungVersions(repository, now - grace, signal), [], rules);
    await marker.markLoosely(
      reprieves.filter(({ kind }) => kind === 'version').map(({ id }) => id),
      reprieves.filter(({ kind }) => kind === 'root').map(({ id }) => id),
      rules,
    );
    return marker;
  } catch (error) {
    marker[Symbol.dispose]();
    throw error;
  }
}

/** Compares what is marked with what there is. @param run where to write lists; undefined to count only */
async function survey(options: CondemnOptions, marker: Marker, run: string | undefined) {
  const { repository, now, grace, repackBelow, signal } = options;
  const before = now - grace;
  const sums = { condemned: zeros(), young: zeros(), kept: zeros() };
  const lists = {} as Record<Collected, Amount & { readonly lists: number }>;
  let repacked: Repacked = { packs: 0, bytes: 0, liveBytes: 0, done: false };
  const emptied = new Set<string>();
  for (const kind of COLLECTED) {
    if (kind === 'packs' && repackBelow !== undefined && marker.places !== undefined) {
      const thin = await findThin(repository, marker, repackBelow, before, signal);
      repacked = {
        packs: thin.length,
        bytes: thin.reduce((sum, { size }) => sum + size, 0),
        liveBytes: thin.reduce((sum, { live }) => sum + live, 0),
        done: run !== undefined,
      };
      if (run !== undefined) for (const id of await repackPacks(repository, marker, thin, signal)) emptied.add(id);
    }
    const writer = new ListWriter(run === undefined ? undefined : repository, run ?? '', kind, signal);
    const isMarked = markedOf(marker, kind);
    for await (const stored of listStored(repository, kind, signal)) {
      const { id, digest, size, modified } = stored;
      const isNeeded = isMarked(stored) && !emptied.has(id);
      const isYoung = modified.getTime() >= before;
      const sum = sums[isNeeded ? 'kept' : isYoung ? 'young' : 'condemned'][kind];
      sum.objects += 1;
      sum.bytes += size;
      if (!isNeeded && !isYoung) await writer.add(digest, size);
    }
    lists[kind] = await writer.finish();
  }
  return { plan: { ...sums, repack: repacked } satisfies Plan, lists };
}

async function findThin(
  repository: Repository,
  marker: Marker,
  repackBelow: number,
  before: number,
  signal: AbortSignal | undefined,
): Promise<ThinPack[]> {
  const thin: ThinPack[] = [];
  const liveOf = liveBytesOf(marker.places!);
  for await (const { id, digest, size, modified } of listStored(repository, 'packs', signal)) {
    const live = liveOf(digest);
    if (live > 0 && live < size * repackBelow && modified.getTime() < before) thin.push({ id, size, live });
  }
  return thin;
}

function zeros(): Record<Collected, { objects: number; bytes: number }> {
  const zero = () => ({ objects: 0, bytes: 0 });
  return { versions: zero(), segments: zero(), locations: zero(), packs: zero() };
}
