import { realpathSync } from 'node:fs';
import { ConflictError, isErrno, NotFoundError } from '../../dataset/errors.ts';
import { type MountRecord, mountAt } from '../../mount/mount-table.ts';
import type { StagedRecord, StagedRecords } from '../records.ts';

/** What the mount table calls a volume's mount; a long id is cut, for the kernel takes 255 bytes. */
export function mountName(volume: string): string {
  return volume.slice(0, 128);
}

/** The mount table's source of a volume's mount, and of its binds. */
export function sourceName(volume: string): string {
  return `larder:${mountName(volume)}`;
}

/** The mount at `path`, whose folders may be symbolic links; undefined also where there is no such path. */
export function mountedAt(path: string): MountRecord | undefined {
  try {
    return mountAt(realpathSync.native(path));
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Whether this volume's overlay, or a bind of it, is what is mounted there. */
export function isOurs(
  record: Pick<StagedRecord, 'volume' | 'stagingPath'>,
  path: string = record.stagingPath,
): boolean {
  return mountedAt(path)?.source === sourceName(record.volume);
}

/**
 * The volume that has one of its mounts at `path`.
 * Errors: NotFoundError where it is neither staged nor published there.
 */
export function recordAt(records: Pick<StagedRecords, 'get'>, volume: string, path: string): StagedRecord {
  const record = records.get(volume);
  const known = record?.stagingPath === path || record?.published.some((target) => target.targetPath === path);
  if (record !== undefined && known && isOurs(record, path)) return record;
  throw new NotFoundError(`volume ${volume} is neither staged nor published at ${path}`, { facts: { volume, path } });
}

/** Errors: ConflictError where something is mounted at `path`. */
export function refuseForeign(path: string): void {
  const mounted = mountedAt(path);
  if (mounted === undefined) return;
  throw new ConflictError(
    `on ${path} is mounted ${mounted.type} ${mounted.source}: unmount it, or choose another directory`,
    {
      facts: { path, type: mounted.type },
    },
  );
}
