import { ConflictError, LarderError, NotFoundError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import { faultPoint } from '../system/fault.ts';
import { RecordStore, type Stored } from './record-store.ts';
import {
  type GroupCut,
  type GroupRecord,
  groupRecords,
  type SnapshotAbout,
  type SnapshotRecord,
  snapshotRecords,
} from './snapshot.ts';
import type { Volume } from './volume.ts';

/** How often a removal is tried that somebody's change overtakes. */
const ATTEMPTS = 8;

export function snapshotStore(repository: Repository): RecordStore<SnapshotRecord> {
  return new RecordStore(repository, snapshotRecords);
}

export function groupStore(repository: Repository): RecordStore<GroupRecord> {
  return new RecordStore(repository, groupRecords);
}

/** Writes a record in the place of what was found; undefined where somebody was faster. */
export async function recorded(
  store: RecordStore<SnapshotRecord>,
  found: Stored<SnapshotRecord> | undefined,
  record: SnapshotRecord,
): Promise<SnapshotRecord | undefined> {
  try {
    if (found === undefined) return (await store.add(record)) ? record : undefined;
    return await store.change(record.id, (now) => (now.created === undefined ? record : undefined));
  } catch (error) {
    // Deleted meanwhile, or its volume's version moved on and was collected.
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

/**
 * From here on the clone is the snapshot, and its node makes its content durable. A record that names another already stays as it is.
 */
export async function confirmCut(
  store: RecordStore<SnapshotRecord>,
  id: string,
  { created, ...clone }: Extract<GroupCut, { readonly cut: string }> & { readonly created: string },
): Promise<SnapshotRecord> {
  return await store.change(id, (now) => (now.created === undefined ? { ...now, ...clone, created } : undefined));
}

/** A record of a snapshot that is not cut yet: it keeps what its changes are changes to. */
export function begunRecord(
  id: string,
  name: string,
  volume: Volume,
  about: SnapshotAbout,
  group?: string,
): SnapshotRecord {
  const { version, lower, kind, dataset, capacityBytes } = volume;
  return {
    id,
    name,
    source: volume.id,
    volumeName: volume.name,
    kind,
    dataset,
    version,
    ...(lower !== undefined && { lower }),
    capacityBytes,
    ready: false,
    ...(group !== undefined && { group }),
    about,
  };
}

/** Removes a snapshot's record; that there is none is no error. */
export async function removeSnapshot(store: RecordStore<SnapshotRecord>, id: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const found = await store.find(id);
    if (found === undefined) return;
    try {
      await store.remove(found);
      faultPoint('snapshot.record-removed');
      return;
    } catch (error) {
      if (!(error instanceof ConflictError) || attempt >= ATTEMPTS) throw error;
    }
  }
}

/** Whether a version that was to be kept is gone. */
export function isOvertaken(error: unknown): boolean {
  return error instanceof LarderError && error.kind === 'not-found' && error.facts.version !== undefined;
}
