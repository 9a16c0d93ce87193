import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Digest } from '../dataset/digest.ts';
import { isErrno } from '../dataset/errors.ts';
import { writeFileAtomic } from '../system/atomic.ts';
import type { View, VolumeKind } from './service-types.ts';

/**
 * What the daemon must know of a volume after it was killed. A record is written before the first mount and removed after the
 * last: whatever is mounted has one.
 */
export interface StagedRecord {
  readonly volume: string;
  readonly repository: string;
  readonly dataset: string;
  readonly version: Digest;
  /** The manifest's root digest: names the image. */
  readonly root: Digest;
  /** Of the version, as it says: asked for while the repository is away too. */
  readonly size: { readonly bytes: number; readonly entries: number };
  readonly kind: VolumeKind;
  readonly capacityBytes?: number;
  /** As in `StageRequest`, as what follows. */
  readonly prefetch?: string;
  readonly view?: View;
  readonly deadline?: number;
  readonly bandwidth?: number;
  readonly autosave?: number;
  /** The repository has a record of it, where its settings may change. */
  readonly recorded?: boolean;
  /** It began with its pod, and ends with it: nothing but this record knows of it. */
  readonly ephemeral?: boolean;
  readonly stagingPath: string;
  /** `staging` until everything is mounted. */
  readonly state: 'staging' | 'staged';
  readonly published: readonly PublishedTarget[];
}

export interface PublishedTarget {
  readonly targetPath: string;
  readonly readOnly: boolean;
  readonly exclusive: boolean;
}

/** The staged volumes of this node, one small file each in the runtime directory. */
export interface StagedRecords {
  get(volume: string): StagedRecord | undefined;
  at(stagingPath: string): StagedRecord | undefined;
  all(): readonly StagedRecord[];
  put(record: StagedRecord): Promise<void>;
  remove(volume: string): void;
}

export function openRecords(directory: string): StagedRecords {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const records = new Map<string, StagedRecord>();
  const fileOf = (volume: string) => join(directory, `${encodeURIComponent(volume)}.json`);
  for (const name of readdirSync(directory)) {
    if (!name.endsWith('.json')) continue;
    const record = JSON.parse(readFileSync(join(directory, name), 'utf8')) as StagedRecord;
    records.set(record.volume, record);
  }
  return {
    get: (volume) => records.get(volume),
    at: (stagingPath) => records.values().find((record) => record.stagingPath === stagingPath),
    all: () => [...records.values()],
    async put(record) {
      await writeFileAtomic(fileOf(record.volume), `${JSON.stringify(record)}\n`, { mode: 0o600 });
      records.set(record.volume, record);
    },
    remove(volume) {
      try {
        rmSync(fileOf(volume));
      } catch (error) {
        if (!isErrno(error, 'ENOENT')) throw error;
      }
      records.delete(volume);
    },
  };
}
