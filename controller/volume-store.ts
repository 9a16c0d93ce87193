import type { Repository } from '../dataset/repository.ts';
import { type ChangeOptions, RecordStore } from './record-store.ts';
import { type Volume, volumeRecords } from './volume.ts';

export function volumeStore(repository: Repository): RecordStore<Volume> {
  return new RecordStore(repository, volumeRecords);
}

/** Errors: NotFoundError; CorruptError. */
export async function readVolume(repository: Repository, id: string): Promise<Volume> {
  return await volumeStore(repository).read(id);
}

/** See `RecordStore.change`. Members that `change` does not know must stay: it spreads what it is given. */
export async function changeVolume(
  repository: Repository,
  id: string,
  change: (volume: Volume) => Volume | undefined | Promise<Volume | undefined>,
  options: ChangeOptions = {},
): Promise<Volume> {
  return await volumeStore(repository).change(id, change, options);
}
