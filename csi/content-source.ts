import { type SnapshotContext, saveFirst } from '../controller/holder.ts';
import { contentOf, readSnapshot } from '../controller/snapshots.ts';
import { volumeSlot } from '../controller/volume.ts';
import { volumeStore } from '../controller/volume-store.ts';
import type { Origin } from '../controller/volumes.ts';
import { InvalidError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import { requiredName } from './check.ts';
import type { VolumeContentSource } from './messages/volume.ts';

export interface SourceParts extends SnapshotContext {
  readonly repository: Repository;
}

/**
 * What a volume of this name is to be made of; undefined for a dataset, which the parameters name. What a node has not saved of another
 * volume is saved before, so that the clone has it.
 * Errors: NotFoundError where the snapshot or the volume is not there; UnavailableError where it has not all of its content yet.
 */
export async function originOf(
  parts: SourceParts,
  name: string,
  source: VolumeContentSource | null,
): Promise<Origin | undefined> {
  if (source === null) return undefined;
  const { kind, id } = idOf(source);
  const made = await volumeStore(parts.repository).at(volumeSlot(name));
  // It was made before: what it was made of may have changed since, or be gone.
  if (made !== undefined) return { kind, id, dataset: made.record.dataset, version: made.record.base };
  if (kind === 'snapshot') return await snapshotOrigin(parts.repository, id);
  await saveFirst(parts.repository, id, parts);
  return { kind, id };
}

async function snapshotOrigin(repository: Repository, id: string): Promise<Origin> {
  const snapshot = await readSnapshot(repository, id);
  const { kind, capacityBytes } = snapshot;
  return { kind: 'snapshot', id, ...contentOf(snapshot), ...(kind === 'workspace' && { capacityBytes }) };
}

function idOf({ type, snapshot, volume }: VolumeContentSource): { kind: 'snapshot' | 'volume'; id: string } {
  if (type === 'snapshot')
    return { kind: type, id: requiredName(snapshot?.snapshotId ?? '', 'volume_content_source.snapshot.snapshot_id') };
  if (type === 'volume')
    return { kind: type, id: requiredName(volume?.volumeId ?? '', 'volume_content_source.volume.volume_id') };
  throw new InvalidError('volume_content_source says nothing: name a snapshot or a volume, or leave it out');
}
