import type { Repository } from '../dataset/repository.ts';
import type { VolumeSettings } from '../dataset/volume-terms.ts';
import { volumeRecords } from './volume.ts';
import { volumeStore } from './volume-store.ts';

/** Settings, and the state of the record that has them. */
export interface SettingsAt {
  readonly settings: VolumeSettings;
  /** Changes with the record, whatever of it does. */
  readonly etag: string;
}

/** So few records are read one by one; a listing costs a request for each thousand records of the repository. */
const FEW = 8;
const LISTED_FOR_ONE = 500;

/**
 * Reads the settings of volumes whose record has changed (node/ledger.ts), with as few requests as it takes: many volumes cost a listing,
 * and a read of each that changed.
 */
export function createSettingsReader(repository: Repository) {
  const { bucket } = repository;
  const { prefix, slotOfId } = volumeRecords;
  let listed = 0;

  /** ETags by key. */
  async function list(signal: AbortSignal | undefined): Promise<ReadonlyMap<string, string>> {
    const etags = new Map<string, string>();
    for await (const { key, etag } of bucket.list(prefix, { ...(signal && { signal }) })) etags.set(key, etag);
    listed = etags.size;
    return etags;
  }

  return {
    async changed(
      volumes: ReadonlyMap<string, string | undefined>,
      signal?: AbortSignal,
    ): Promise<ReadonlyMap<string, SettingsAt>> {
      const known = [...volumes].flatMap(([id, etag]) => {
        const slot = slotOfId(id);
        return slot === undefined ? [] : [{ id, etag, key: prefix + slot }];
      });
      const etags = known.length > Math.max(FEW, listed / LISTED_FOR_ONE) ? await list(signal) : undefined;
      const asked = known.filter(({ key, etag }) => etags === undefined || (etags.has(key) && etags.get(key) !== etag));
      const found = new Map<string, SettingsAt>();
      for (const { id, etag } of asked) {
        const stored = await volumeStore(repository).find(id, signal);
        if (stored === undefined || stored.etag === etag) continue;
        found.set(id, { settings: stored.record.settings, etag: stored.etag });
      }
      return found;
    },
  };
}
