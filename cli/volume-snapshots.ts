import { setTimeout as sleep } from 'node:timers/promises';
import { createAsks } from '../controller/asks.ts';
import { type Snapshot, snapshotOf, snapshotRecords, snapshotSlot } from '../controller/snapshot.ts';
import { listSnapshots, readSnapshot, type SnapshotContext, snapshotStore } from '../controller/snapshots.ts';
import { shortId } from '../dataset/digest.ts';
import { InvalidError, NotFoundError, UnavailableError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import { formatDate, formatDuration } from './format.ts';
import type { Session } from './session.ts';
import { formatTable } from './table.ts';
import { giveUpAfter, observerOf } from './volumes.ts';

/** How long a node's answer is waited for at least, and beyond the time after which it is given up; in milliseconds. */
const PATIENCE = 90_000;
const BEYOND = 20_000;

/** Asks nodes through the repository, for as long as it takes to tell that one is lost; says so of those that are. */
export function snapshotContext(repository: Repository, session: Session): SnapshotContext {
  const { output, signal } = session;
  const told = new Set<string>();
  return {
    asks: createAsks({ repository, patience: Math.max(PATIENCE, giveUpAfter(session) + BEYOND) }),
    nodes: observerOf(repository, session),
    signal,
    onGivenUp({ id, name, savedAt }, { node }) {
      if (told.has(id)) return;
      told.add(id);
      const saved = savedAt === undefined ? 'what it was created from' : `what was saved last, ${formatDate(savedAt)}`;
      output.warn(`node ${node}, which has volume ${name}, gives no signs of life: the snapshot is ${saved}`);
    },
  };
}

/** Whether a text can only be a snapshot of a volume, and no NAME@TAG. */
export function isSnapshotId(text: string): boolean {
  return text.startsWith('snap-') && !text.includes('@');
}

/**
 * The snapshot with this id, or the start of one, or that was created by this name; undefined where there is none.
 * Errors: NotFoundError for a whole id; InvalidError where several ids begin so.
 */
export async function findSnapshot(repository: Repository, text: string): Promise<Snapshot | undefined> {
  if (snapshotRecords.slotOfId(text) !== undefined) return await readSnapshot(repository, text);
  const found = isSnapshotId(text) ? (await snapshotsOf(repository)).filter(({ id }) => id.startsWith(text)) : [];
  if (found.length > 1)
    throw new InvalidError(`${found.length} snapshots' ids begin with '${text}': give more of it`, {
      facts: { snapshot: text },
    });
  const named = await snapshotStore(repository).at(snapshotSlot(text));
  return found[0] ?? (named && snapshotOf(named.record));
}

/** Errors: NotFoundError; InvalidError where several ids begin so. */
export async function requireSnapshot(repository: Repository, text: string): Promise<Snapshot> {
  const snapshot = await findSnapshot(repository, text);
  if (snapshot !== undefined) return snapshot;
  throw new NotFoundError(`there is no snapshot '${text}': 'larder snapshot list' shows what there is`, {
    facts: { snapshot: text },
  });
}

/** How often it is looked whether snapshots are ready, in milliseconds. */
const LOOK_INTERVAL = 300;

/**
 * Waits until a snapshot's content is in the repository.
 * Errors: UnavailableError where its node says that it cannot bring it now, or is gone; it goes on trying, or when it comes back.
 */
export async function untilReady(repository: Repository, id: string, context: SnapshotContext): Promise<Snapshot> {
  for (;;) {
    const snapshot = await readSnapshot(repository, id, context);
    if (snapshot.ready) return snapshot;
    if (snapshot.failure !== undefined)
      throw new UnavailableError(`snapshot ${id} is cut, and not in the repository yet: ${snapshot.failure}`, {
        facts: { snapshot: id },
      });
    await sleep(LOOK_INTERVAL, undefined, { signal: context.signal });
  }
}

/** All snapshots of volumes, or those that `wants` takes. */
export async function snapshotsOf(
  repository: Repository,
  wants: { readonly source?: string; readonly dataset?: string } = {},
): Promise<Snapshot[]> {
  const { source, dataset } = wants;
  const found: Snapshot[] = [];
  for (let after: string | undefined; ; ) {
    const page = await listSnapshots(repository, { ...(source !== undefined && { source }), ...(after && { after }) });
    found.push(...page.snapshots.filter((each) => dataset === undefined || each.dataset === dataset));
    if (page.next === undefined) return found.sort((a, b) => (a.created < b.created ? -1 : 1));
    after = page.next;
  }
}

/** What programs are told of a snapshot. */
export function snapshotDocument({ id, source, version, ...rest }: Snapshot): object {
  return { snapshot: id, volume: source, ...(version !== undefined && { version }), ...rest };
}

export function printSnapshots({ output }: Session, snapshots: readonly Snapshot[]): void {
  for (const snapshot of snapshots) output.document(snapshotDocument(snapshot));
  if (snapshots.length === 0) return;
  const rows = snapshots.map((snapshot) => {
    const { id, volumeName, dataset, version, created } = snapshot;
    const content = version === undefined ? dataset : `${dataset}@${shortId(version)}`;
    return [id, volumeName, content, formatDate(created), stateOf(snapshot)];
  });
  const columns = ['SNAPSHOT', 'VOLUME', 'CONTENT', 'WHEN', 'STATE'].map((title) => ({ title }));
  for (const line of formatTable(columns, rows)) output.line(line);
}

export function stateOf({ ready, failure, node }: Snapshot): string {
  if (failure !== undefined) return ready ? `ready; ${failure}` : `not ready: ${failure}`;
  return ready ? 'ready' : `on node ${node} alone, which is bringing it to the repository`;
}

/** Lines that tell of one snapshot. */
export function aboutSnapshot(snapshot: Snapshot): string[] {
  const { id, name, source, volumeName, dataset, version, created, capacityBytes, group, pauseMilliseconds } = snapshot;
  return [
    `snapshot ${id}`,
    `name     ${name}`,
    `volume   ${volumeName} (${source}), ${capacityBytes} bytes`,
    `content  ${version === undefined ? dataset : `${dataset}@${version}`}`,
    `when     ${formatDate(created)}`,
    ...(pauseMilliseconds === undefined ? [] : [`pause    ${formatDuration(pauseMilliseconds)}`]),
    ...(group === undefined ? [] : [`group    ${group}`]),
    `state    ${stateOf(snapshot)}`,
  ];
}
