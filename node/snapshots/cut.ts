import { randomUUID } from 'node:crypto';
import type { Answer, Ask, Cut, CutMember } from '../../dataset/asks.ts';
import { type CloneMember, cloneImage, cloneTogether } from '../../mount/snapshot.ts';
import { faultPoint } from '../../system/fault.ts';
import type { StagedRecord } from '../records.ts';
import type { Volumes } from '../service.ts';
import { isOurs } from '../volumes/names.ts';
import type { WorkspacePlace } from '../volumes/workspace.ts';
import { readWorkspaceRecord, type WorkspaceRecord } from '../workspace-record.ts';
import { type Barrier, meet } from './barrier.ts';
import type { KeptClone, KeptClones } from './clones.ts';

export interface CutParts {
  readonly volumes: Pick<Volumes, 'lock' | 'records' | 'workspaceOf'>;
  readonly clones: KeptClones;
  /** Told of each clone that is kept. */
  readonly onKept: (clone: KeptClone) => void;
}

interface Held {
  readonly member: CutMember;
  readonly record: StagedRecord;
  readonly place: WorkspacePlace;
  readonly workspace: WorkspaceRecord;
}

/** Clones one workspace for a snapshot, while its writers go on. */
export async function cutOne(parts: CutParts, member: CutMember, signal?: AbortSignal): Promise<Answer> {
  const { volumes, clones } = parts;
  return await volumes.lock(member.volume, async () => {
    const known = clones.get(member.snapshot);
    if (known !== undefined && known.attempt === undefined) return { kind: 'cut', cuts: [cutOf(known)] };
    const held = heldHere(volumes, member);
    if (held === undefined) return { kind: 'elsewhere', volume: member.volume };
    if (known !== undefined) await clones.remove(known);
    const created = new Date().toISOString();
    const clone = clones.place(member.volume, member.snapshot);
    const { pauseMilliseconds } = await cloneImage({ ...held.place, clone, freeze: false, signal });
    faultPoint('snapshot.cloned');
    const kept = keptOf(held, created, pauseMilliseconds);
    await clones.note(kept);
    faultPoint('snapshot.noted');
    parts.onKept(kept);
    return { kind: 'cut', cuts: [cutOf(kept)] };
  });
}

/**
 * Clones several workspaces as they are at one moment, which is one moment on all nodes of the barrier.
 * @param barrier undefined where this node is the only one
 */
export async function cutGroup(
  parts: CutParts,
  ask: Ask & { readonly kind: 'cut-group' },
  barrier: Barrier | undefined,
  signal?: AbortSignal,
): Promise<Answer> {
  const { volumes, clones } = parts;
  const { attempt, longestPause } = ask;
  const members = [...ask.members].sort((a, b) => (a.volume < b.volume ? -1 : 1));
  return await lockAll(volumes, members, async () => {
    const known = members.map(({ snapshot }) => clones.get(snapshot));
    if (known.every((each) => each?.attempt === attempt))
      return { kind: 'cut', cuts: known.map((each) => cutOf(each as KeptClone)) };
    const held = members.map((member) => heldHere(volumes, member));
    const lost = members.find((_, at) => held[at] === undefined);
    if (lost !== undefined) return { kind: 'elsewhere', volume: lost.volume };
    // Of an attempt that came to nothing.
    for (const each of known) if (each !== undefined) await clones.remove(each);
    let created = new Date().toISOString();
    const targets = (held as Held[]).map(({ place, member }): CloneMember => {
      const { file, at } = place;
      return { file, at, clone: clones.place(member.volume, member.snapshot) };
    });
    const { pauseMilliseconds } = await cloneTogether(targets, {
      longestPause,
      ...(signal && { signal }),
      ...(barrier && { whenSynced: (late) => meet(barrier, 'ready', any(late, signal)) }),
      async whenFrozen(late) {
        created = new Date().toISOString();
        if (barrier) await meet(barrier, 'frozen', late);
      },
    });
    const kept = (held as Held[]).map((each) => keptOf(each, created, pauseMilliseconds, attempt));
    for (const each of kept) await clones.note(each);
    for (const each of kept) parts.onKept(each);
    return { kind: 'cut', cuts: kept.map(cutOf) };
  });
}

function any(late: AbortSignal, signal: AbortSignal | undefined): AbortSignal {
  return signal === undefined ? late : AbortSignal.any([late, signal]);
}

/** Always in the same order, so that two groups do not wait for each other. */
async function lockAll<T>(
  volumes: Pick<Volumes, 'lock'>,
  members: readonly CutMember[],
  task: () => Promise<T>,
): Promise<T> {
  const [first, ...rest] = members;
  if (first === undefined) return await task();
  return await volumes.lock(first.volume, () => lockAll(volumes, rest, task));
}

/** The workspace, if it is mounted here and this node may save it. */
function heldHere(volumes: Pick<Volumes, 'records' | 'workspaceOf'>, member: CutMember): Held | undefined {
  const record = volumes.records.get(member.volume);
  if (record?.kind !== 'workspace' || record.state !== 'staged' || !isOurs(record)) return undefined;
  const place = volumes.workspaceOf(member.volume);
  const workspace = readWorkspaceRecord(place.record);
  return workspace?.lease?.state === 'held' ? { member, record, place, workspace } : undefined;
}

function keptOf(
  { member, record, workspace }: Held,
  created: string,
  pauseMilliseconds: number,
  attempt?: string,
): KeptClone {
  const { snapshot, volume } = member;
  return {
    snapshot,
    cut: randomUUID(),
    volume,
    repository: record.repository,
    dataset: workspace.dataset,
    lower: workspace.version,
    generation: workspace.lease!.generation,
    created,
    pauseMilliseconds: Math.round(pauseMilliseconds * 1000) / 1000,
    ...(attempt !== undefined && { attempt }),
  };
}

function cutOf({ snapshot, cut, created, pauseMilliseconds, lower }: KeptClone): Cut {
  return { snapshot, cut, created, pauseMilliseconds, lower };
}
