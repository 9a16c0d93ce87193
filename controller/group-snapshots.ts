import { ConflictError, InvalidError, UnavailableError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import { faultPoint } from '../system/fault.ts';
import { tryCut } from './group-cut.ts';
import type { SnapshotContext } from './holder.ts';
import { newId } from './record-kind.ts';
import type { RecordStore } from './record-store.ts';
import {
  GROUP_LIMIT,
  type GroupCut,
  type GroupRecord,
  type GroupSnapshot,
  groupSlot,
  memberSlot,
  type Snapshot,
  snapshotOf,
} from './snapshot.ts';
import { readSnapshotParameters } from './snapshot-parameters.ts';
import { confirmCut, groupStore, isOvertaken, removeSnapshot, snapshotStore } from './snapshot-store.ts';

export interface GroupRequest {
  readonly name: string;
  /** Volumes' ids. */
  readonly sources: readonly string[];
  /** `message`, `author`. */
  readonly parameters?: Readonly<Record<string, string>>;
  /** How long writers may have to wait at most, in milliseconds; 10 seconds if not said. */
  readonly longestPause?: number;
}

/** How long writers wait at most where nobody says anything, in milliseconds. */
const LONGEST_PAUSE = 10_000;
const ATTEMPTS = 5;

/**
 * Makes snapshots of several volumes, all of one moment, or finds those that were made under this name: either all of them are there afterwards,
 * or none and an error. Workspaces that nodes hold are frozen, all together, then cloned, then thawed; nodes wait for each other at a
 * barrier in the repository.
 * Errors: as of `createSnapshot`; UnavailableError also where the nodes did not come together within the longest pause.
 */
export async function createGroupSnapshot(
  repository: Repository,
  request: GroupRequest,
  context: SnapshotContext,
): Promise<GroupSnapshot> {
  const { name, longestPause = LONGEST_PAUSE } = request;
  const about = readSnapshotParameters(request.parameters);
  const sources = [...new Set(request.sources)].sort();
  if (name === '') throw new InvalidError('a group snapshot must have a name');
  if (about.tag !== undefined || about.branch !== undefined)
    throw new InvalidError(
      "a group's snapshots cannot have one tag or branch: name each afterwards, with 'larder snapshot tag' or 'larder snapshot branch'",
    );
  if (sources.length === 0 || sources.length > GROUP_LIMIT)
    throw new InvalidError(`a group has 1 to ${GROUP_LIMIT} volumes, not ${sources.length}`);
  const groups = groupStore(repository);
  const slot = groupSlot(name);
  for (let attempt = 1; ; attempt++) {
    context.signal?.throwIfAborted();
    const found = (await groups.at(slot, context.signal))?.record;
    if (found !== undefined && found.sources.join() !== sources.join())
      throw new ConflictError(
        `group snapshot ${JSON.stringify(name)} exists (${found.id}), of other volumes: choose another name, or delete it first`,
        { facts: { group: found.id, name } },
      );
    if (found?.created !== undefined) return await finishGroup(repository, found);
    try {
      const group = found ?? (await begin(groups, slot, name, sources, about));
      const cut = group && (await tryCut(repository, groups, group, longestPause, context));
      if (cut !== undefined) return await finishGroup(repository, cut);
    } catch (error) {
      if (!isOvertaken(error)) {
        await takeBack(repository, slot);
        throw error;
      }
    }
    if (attempt >= ATTEMPTS) {
      await takeBack(repository, slot);
      throw new UnavailableError(
        `volumes of group ${JSON.stringify(name)} go from node to node all the time: try again`,
      );
    }
  }
}

/** Undefined where somebody was faster. */
async function begin(
  groups: RecordStore<GroupRecord>,
  slot: string,
  name: string,
  sources: readonly string[],
  about: GroupRecord['about'],
): Promise<GroupRecord | undefined> {
  const id = newId(slot);
  const snapshots = sources.map((source) => newId(memberSlot(id, source)));
  const group: GroupRecord = { id, name, sources, snapshots, about };
  if (!(await groups.add(group))) return undefined;
  faultPoint('group.recorded');
  return group;
}

/** Of a group that was not cut, nothing stays: nodes drop their clones when there is no record of them. */
async function takeBack(repository: Repository, slot: string): Promise<void> {
  const groups = groupStore(repository);
  const found = await groups.at(slot);
  if (found === undefined || found.record.created !== undefined) return;
  const store = snapshotStore(repository);
  for (const id of found.record.snapshots) await removeSnapshot(store, id);
  try {
    await groups.remove(found);
  } catch (error) {
    // Somebody else has just cut it, or taken it back.
    if (!(error instanceof ConflictError)) throw error;
  }
}

/** Sees to it that its members' records tell what they are, and gives all. */
async function finishGroup(repository: Repository, group: GroupRecord): Promise<GroupSnapshot> {
  const { id, name, created = '', cuts = [], pauseMilliseconds } = group;
  const store = snapshotStore(repository);
  const settle = async (member: string, cut: GroupCut): Promise<Snapshot | undefined> => {
    const found = await store.find(member);
    if (found === undefined) return undefined;
    const known = snapshotOf(found.record);
    if (known !== undefined) return known;
    if ('cut' in cut) return snapshotOf(await confirmCut(store, member, { ...cut, created }));
    const record = await store.change(member, (now) => {
      const { lower: _, ...rest } = now;
      return now.created === undefined ? { ...rest, version: cut.version, created, ready: true } : undefined;
    });
    return snapshotOf(record);
  };
  const snapshots: Snapshot[] = [];
  for (const [at, member] of group.snapshots.entries()) {
    const snapshot = await settle(member, cuts[at]!);
    if (snapshot === undefined)
      throw new UnavailableError(`group snapshot ${JSON.stringify(id)} is being deleted: ${member} is gone already`, {
        facts: { group: id },
      });
    snapshots.push(snapshot);
  }
  return {
    id,
    name,
    snapshots,
    created,
    ready: snapshots.every(({ ready }) => ready),
    ...(pauseMilliseconds !== undefined && { pauseMilliseconds }),
  };
}

/**
 * @param snapshotIds its members, where the caller knows them
 * Errors: NotFoundError; InvalidError where it has other members.
 */
export async function readGroupSnapshot(
  repository: Repository,
  id: string,
  snapshotIds?: readonly string[],
): Promise<GroupSnapshot> {
  const groups = groupStore(repository);
  const group = await groups.read(id);
  if (group.created === undefined) throw groups.none(id);
  refuseOtherMembers(group, snapshotIds);
  return await finishGroup(repository, group);
}

/**
 * Removes a group and all of its snapshots; that there is none is no error.
 * Errors: InvalidError where it has other members than the caller says.
 */
export async function deleteGroupSnapshot(
  repository: Repository,
  id: string,
  snapshotIds?: readonly string[],
): Promise<void> {
  const groups = groupStore(repository);
  const store = snapshotStore(repository);
  for (let attempt = 1; ; attempt++) {
    const found = await groups.find(id);
    if (found === undefined) return;
    refuseOtherMembers(found.record, snapshotIds);
    // The group last: cut short, it is found again.
    for (const member of found.record.snapshots) await removeSnapshot(store, member);
    try {
      await groups.remove(found);
      return;
    } catch (error) {
      if (!(error instanceof ConflictError) || attempt >= ATTEMPTS) throw error;
    }
  }
}

function refuseOtherMembers(group: GroupRecord, snapshotIds: readonly string[] | undefined): void {
  if (snapshotIds === undefined || snapshotIds.length === 0) return;
  if ([...snapshotIds].sort().join() === [...group.snapshots].sort().join()) return;
  throw new InvalidError(
    `group snapshot ${JSON.stringify(group.id)} has the snapshots ${group.snapshots.join(', ')}, not ${snapshotIds.join(', ')}`,
    { facts: { group: group.id } },
  );
}
