import { realpathSync } from 'node:fs';
import { ConflictError, isErrno } from '../../dataset/errors.ts';
import { type MountRecord, mountAt } from '../../mount/mount-table.ts';
import type { StagedRecord } from '../records.ts';

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
