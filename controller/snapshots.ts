import type { Digest } from '../dataset/digest.ts';
import { ConflictError, InvalidError, NotFoundError, UnavailableError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import { faultPoint } from '../system/fault.ts';
import { askHolder, liveHolder, type SnapshotContext } from './holder.ts';
import { newId } from './record-kind.ts';
import type { PageRequest, Stored } from './record-store.ts';
import { type Snapshot, type SnapshotAbout, type SnapshotRecord, snapshotOf, snapshotSlot } from './snapshot.ts';
import { describedVersion, nameVersion } from './snapshot-names.ts';
import { readSnapshotParameters } from './snapshot-parameters.ts';
import {
  begunRecord,
  confirmCut,
  groupStore,
  isOvertaken,
  recorded,
  removeSnapshot,
  snapshotStore,
} from './snapshot-store.ts';
import type { Volume } from './volume.ts';
import { readVolume } from './volume-store.ts';

export type { SnapshotContext } from './holder.ts';
export { snapshotStore } from './snapshot-store.ts';

export interface SnapshotRequest {
  readonly name: string;
  /** The volume's id. */
  readonly source: string;
  /** `message`, `author`, `tag`, `branch`. */
  readonly parameters?: Readonly<Record<string, string>>;
  /** Metadata of the version. */
  readonly meta?: Readonly<Record<string, string>>;
}

export interface SnapshotPage {
  readonly snapshots: readonly Snapshot[];
  /** Where the next page starts; absent on the last one. */
  readonly next?: string;
}

/** How often something is tried anew that was overtaken by others. */
const ATTEMPTS = 8;

/**
 * Makes a snapshot of a volume, or finds the one that was made under this name. Of a workspace that a node holds, the node clones it now; the
 * snapshot is ready when the clone's content is in the repository. Of any other volume, its content is there, and the snapshot is ready.
 * Errors: NotFoundError for the volume; ConflictError where the name has another snapshot; InvalidError for the parameters; UnavailableError
 * where the node cannot be asked, which may be tried again and finds what was done.
 */
export async function createSnapshot(
  repository: Repository,
  request: SnapshotRequest,
  context: SnapshotContext,
): Promise<Snapshot> {
  const { name, source, meta } = request;
  const about: SnapshotAbout = { ...readSnapshotParameters(request.parameters), ...(meta !== undefined && { meta }) };
  if (name === '') throw new InvalidError('a snapshot must have a name');
  const store = snapshotStore(repository);
  for (let attempt = 1; ; attempt++) {
    context.signal?.throwIfAborted();
    const found = await store.at(snapshotSlot(name), context.signal);
    if (found !== undefined) refuseOther(found.record, request);
    const made = found && snapshotOf(found.record);
    if (made !== undefined) return await withOutlook(found!.record, made, context);
    try {
      const created = await tryCreate(repository, { name, source, about }, found, context);
      if (created !== undefined) return created;
    } catch (error) {
      // What its volume had when it was read is collected: it has something else by now.
      if (!isOvertaken(error)) throw error;
    }
    if (attempt >= ATTEMPTS)
      throw new UnavailableError(`volume ${JSON.stringify(source)} goes from node to node all the time: try again`, {
        facts: { volume: source },
      });
  }
}

/** One try; undefined where somebody was faster, or the volume is elsewhere by now. */
async function tryCreate(
  repository: Repository,
  what: { readonly name: string; readonly source: string; readonly about: SnapshotAbout },
  found: Stored<SnapshotRecord> | undefined,
  context: SnapshotContext,
): Promise<Snapshot | undefined> {
  const store = snapshotStore(repository);
  const volume = await readVolume(repository, what.source).catch(async (error) => {
    // What was begun of a volume that is deleted since comes to nothing.
    if (error instanceof NotFoundError && found !== undefined) await removeSnapshot(store, found.record.id);
    throw error;
  });
  const holder = await liveHolder(volume, context);
  const id = found?.record.id ?? newId(snapshotSlot(what.name));
  const begun = begunRecord(id, what.name, volume, what.about);
  if (holder === undefined) {
    const record = await storedRecord(repository, volume, begun);
    const made = await recorded(store, found, record);
    return made && snapshotOf(made);
  }
  if (holder.unsaved) {
    // It is not written to any more: what its node saves is its content.
    await askHolder(context, holder, { kind: 'save-now', volume: volume.id }, context.signal);
    return undefined;
  }
  if (found === undefined && !(await recorded(store, undefined, begun))) return undefined;
  faultPoint('snapshot.recorded');
  const ask = { kind: 'cut', snapshot: id, volume: volume.id } as const;
  const answer = await askHolder(context, holder, ask, context.signal);
  faultPoint('snapshot.asked');
  if (answer?.kind !== 'cut') return undefined;
  const cut = answer.cuts.find(({ snapshot }) => snapshot === id);
  if (cut === undefined) throw new UnavailableError(`node ${holder.node} did not cut snapshot ${id}: try again`);
  const { snapshot: _, ...clone } = cut;
  const { node, instance } = holder;
  return snapshotOf(await confirmCut(store, id, { ...clone, node, instance }));
}

/** A record of a snapshot whose content is what its volume's record tells. */
async function storedRecord(repository: Repository, volume: Volume, begun: SnapshotRecord): Promise<SnapshotRecord> {
  const { about, dataset } = begun;
  let version: Digest = volume.version;
  const isOwn = volume.kind === 'workspace' && version !== volume.base;
  if (isOwn && (about.message !== undefined || about.author !== undefined || about.meta !== undefined))
    version = await describedVersion(repository, version, about);
  await nameVersion(repository, dataset, version, about);
  const { lower: _, ...rest } = begun;
  return { ...rest, version, ready: true, created: new Date().toISOString() };
}

/** That its content is on a node that is gone is worth to be said. */
async function withOutlook(
  record: SnapshotRecord,
  snapshot: Snapshot,
  { nodes }: Pick<SnapshotContext, 'nodes'>,
): Promise<Snapshot> {
  const { ready, node, instance, failure } = record;
  if (ready || failure !== undefined || node === undefined || instance === undefined) return snapshot;
  if ((await nodes.look({ node, instance })) > 0) return snapshot;
  return {
    ...snapshot,
    failure: `node ${node}, which has the snapshot's content, gives no signs of life: it goes on when that comes back`,
  };
}

function refuseOther(record: SnapshotRecord, { name, source }: SnapshotRequest): void {
  if (record.source === source) return;
  throw new ConflictError(
    `snapshot ${JSON.stringify(name)} exists (${record.id}), of volume ${record.source}, not ${source}: choose another name, or delete it first`,
    { facts: { snapshot: record.id, name } },
  );
}

/**
 * @param context where it is to be told also that the node is gone that has the snapshot's content
 * Errors: NotFoundError.
 */
export async function readSnapshot(
  repository: Repository,
  id: string,
  context?: Pick<SnapshotContext, 'nodes'>,
): Promise<Snapshot> {
  const store = snapshotStore(repository);
  const record = await store.read(id);
  const snapshot = snapshotOf(record);
  if (snapshot === undefined) throw store.none(id);
  return context === undefined ? snapshot : await withOutlook(record, snapshot, context);
}

/**
 * Removes a snapshot's record; that there is none is no error. What was restored from it stays. A member of a group goes with that, unless the
 * group's record is gone.
 * Errors: InvalidError where it is a member of a group that there is.
 */
export async function deleteSnapshot(repository: Repository, id: string): Promise<void> {
  const store = snapshotStore(repository);
  const group = (await store.find(id))?.record.group;
  if (group !== undefined && (await groupStore(repository).find(group)) !== undefined)
    throw new InvalidError(
      `snapshot ${JSON.stringify(id)} is a member of the group ${group}: delete that, with all of its members`,
      { facts: { snapshot: id, group } },
    );
  await removeSnapshot(store, id);
}

/**
 * Snapshots in the order of their ids. Of an id or a volume that there is not, none.
 * Errors: PageError where `page.after` is no page's end.
 */
export async function listSnapshots(
  repository: Repository,
  { id, source, ...page }: PageRequest & { readonly id?: string; readonly source?: string } = {},
): Promise<SnapshotPage> {
  const store = snapshotStore(repository);
  const look = (record: SnapshotRecord) =>
    source === undefined || record.source === source ? snapshotOf(record) : undefined;
  if (id !== undefined) {
    const found = await store.find(id);
    const snapshot = found && look(found.record);
    return { snapshots: snapshot === undefined ? [] : [snapshot] };
  }
  const { found: snapshots, ...rest } = await store.page(page, look);
  return { snapshots, ...rest };
}

/** Errors: UnavailableError where its content is not in the repository yet. */
export function contentOf(snapshot: Snapshot): { readonly dataset: string; readonly version: Digest } {
  const { id, dataset, version, failure } = snapshot;
  if (version !== undefined) return { dataset, version };
  throw new UnavailableError(
    `snapshot ${JSON.stringify(id)} is not ready: ${failure ?? `node ${snapshot.node} is still sending its content to the repository, try again later`}`,
    { facts: { snapshot: id } },
  );
}
