import { randomUUID } from 'node:crypto';
import { type Answer, type Ask, type BarrierStep, barrierKey, type Cut } from '../dataset/asks.ts';
import { UnavailableError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import type { Holder } from '../dataset/volume-terms.ts';
import { faultPoint } from '../system/fault.ts';
import { askHolder, liveHolder, type SnapshotContext } from './holder.ts';
import type { RecordStore } from './record-store.ts';
import type { GroupCut, GroupRecord } from './snapshot.ts';
import { begunRecord, recorded, snapshotStore } from './snapshot-store.ts';
import type { Volume } from './volume.ts';
import { readVolume } from './volume-store.ts';

interface Member {
  readonly id: string;
  readonly volume: Volume;
  readonly holder: Holder | undefined;
}

/**
 * Cuts all members of a group, once: each is cloned by the node that holds it, or is what its volume's record has.
 * @returns the group's record, which tells of all of them; undefined where a volume is elsewhere by now
 */
export async function tryCut(
  repository: Repository,
  groups: RecordStore<GroupRecord>,
  group: GroupRecord,
  longestPause: number,
  context: SnapshotContext,
): Promise<GroupRecord | undefined> {
  const store = snapshotStore(repository);
  const members: Member[] = [];
  for (const [at, source] of group.sources.entries()) {
    const volume = await readVolume(repository, source);
    const holder = await liveHolder(volume, context);
    if (holder?.unsaved) {
      await askHolder(context, holder, { kind: 'save-now', volume: volume.id }, context.signal);
      return undefined;
    }
    members.push({ id: group.snapshots[at] as string, volume, holder });
  }
  const begun = members.map(({ id, volume }) =>
    begunRecord(id, `${group.name}/${volume.name}`, volume, group.about, group.id),
  );
  // From now on they keep what is to be cut, or is the content already.
  for (const record of begun) {
    const found = await store.find(record.id);
    if (!(await recorded(store, found, record))) return undefined;
  }
  faultPoint('group.members-recorded');

  const held = members.filter(({ holder }) => holder !== undefined);
  const answers = held.length === 0 ? [] : await cutTogether(repository, held, longestPause, context);
  if (answers === undefined) return undefined;
  faultPoint('group.cloned');

  const cuts: GroupCut[] = [];
  for (const [at, { id, holder, volume }] of members.entries()) {
    const answer = answers.find(({ snapshot }) => snapshot === id);
    if (holder === undefined) cuts.push({ version: volume.version });
    else if (answer === undefined || answer.lower !== begun[at]!.lower) return undefined;
    else {
      const { cut, lower, pauseMilliseconds } = answer;
      cuts.push({ cut, lower, pauseMilliseconds, node: holder.node, instance: holder.instance });
    }
  }
  const created =
    answers
      .map((answer) => answer.created)
      .sort()
      .at(-1) ?? new Date().toISOString();
  const pauses = answers.map(({ pauseMilliseconds }) => pauseMilliseconds);
  const pause = pauses.length > 0 && { pauseMilliseconds: Math.max(...pauses) };
  return await groups.change(group.id, (now) =>
    now.created === undefined ? { ...now, created, cuts, ...pause } : undefined,
  );
}

/** Undefined where one of the nodes does not have its volume any more. */
async function cutTogether(
  repository: Repository,
  members: readonly Member[],
  longestPause: number,
  context: SnapshotContext,
): Promise<readonly Cut[] | undefined> {
  const nodes = [...new Set(members.map(({ holder }) => holder!.node))].sort();
  const attempt = randomUUID();
  // Where one cannot do it, the others need not wait at the barrier until they give up.
  const failed = new AbortController();
  const signal = context.signal === undefined ? failed.signal : AbortSignal.any([failed.signal, context.signal]);
  const asked = nodes.map(async (node): Promise<Answer | undefined> => {
    const of = members.filter(({ holder }) => holder!.node === node);
    const ask: Ask = {
      kind: 'cut-group',
      members: of.map(({ id, volume }) => ({ snapshot: id, volume: volume.id })),
      attempt,
      nodes,
      longestPause,
    };
    try {
      const answer = await askHolder(context, of[0]!.holder as Holder, ask, signal);
      if (answer?.kind !== 'cut') failed.abort(new Elsewhere());
      return answer;
    } catch (error) {
      if (!failed.signal.aborted) failed.abort(error);
      throw error;
    }
  });
  const ends = await Promise.allSettled(asked);
  await clearBarrier(repository, nodes, attempt);
  if (failed.signal.aborted) {
    if (failed.signal.reason instanceof Elsewhere) return undefined;
    throw failed.signal.reason;
  }
  return ends.flatMap((end) => (end as PromiseFulfilledResult<Answer & { kind: 'cut' }>).value.cuts);
}

class Elsewhere extends Error {}

/** What cannot be removed now, the nodes remove (node/asks.ts). */
async function clearBarrier(repository: Repository, nodes: readonly string[], attempt: string): Promise<void> {
  if (nodes.length < 2) return;
  const steps: readonly BarrierStep[] = ['ready', 'frozen'];
  const keys = nodes.flatMap((node) => steps.map((step) => barrierKey(node, attempt, step)));
  try {
    await Promise.all(keys.map((key) => repository.bucket.delete(key)));
  } catch (error) {
    if (!(error instanceof UnavailableError)) throw error;
  }
}
