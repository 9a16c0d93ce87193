import { join } from 'node:path';
import type { ByteString } from '../../dataset/byte-string.ts';
import type { DirectoryEntry } from '../../dataset/entry.ts';
import { ConflictError, CorruptError, isErrno } from '../../dataset/errors.ts';
import { findEntry } from '../../dataset/manifest.ts';
import type { Repository } from '../../dataset/repository.ts';
import {
  createWorkspaceImage,
  growWorkspaceImage,
  mountWorkspace,
  newWorkspaceBytes,
  prepareMountPoint,
} from '../../mount/workspace.ts';
import { faultPoint } from '../../system/fault.ts';
import type { StagedRecord } from '../records.ts';
import { readWorkspaceRecord, writeWorkspaceRecord } from '../workspace-record.ts';
import type { VolumesContext } from './parts.ts';

/** A workspace's room for changes where nobody says how much: the file is sparse, so it costs what is written. */
export const DEFAULT_CAPACITY_BYTES = 10 * 2 ** 30;

export interface WorkspacePlace {
  /** Where its file system is mounted while it is staged. */
  readonly at: string;
  readonly file: string;
  /** Its `WorkspaceRecord`. */
  readonly record: string;
  /** The index of its saves. */
  readonly saves: string;
}

/**
 * @param mounts the folder in which workspaces are mounted
 * @param images the folder of their files, in the cache
 */
export function workspacePlace(mounts: string, images: string, volume: string): WorkspacePlace {
  const name = encodeURIComponent(volume);
  const path = join(images, name);
  return { at: join(mounts, name), file: `${path}.xfs`, record: `${path}.json`, saves: `${path}.saves.db` };
}

/**
 * Mounts a workspace's file system, which is made where it is not there.
 * Errors: ConflictError where what is kept there are changes to another version.
 */
export async function openWorkspace(
  place: WorkspacePlace,
  volume: StagedRecord,
  repository: Repository,
  { making, templates }: Pick<VolumesContext, 'making' | 'templates'>,
) {
  const { at, file, record } = place;
  const kept = readWorkspaceRecord(record);
  if (kept === undefined) {
    const { dataset, version, ephemeral } = volume;
    await writeWorkspaceRecord(record, {
      repository: repository.id,
      dataset,
      version,
      ...(ephemeral && { ephemeral }),
    });
  } else if (kept.repository !== repository.id || kept.version !== volume.version) {
    throw new ConflictError(
      `volume ${volume.volume} has changes to ${kept.dataset}@${kept.version.slice(0, 12)}: mount that version, or drop them with 'larder unmount ${volume.stagingPath} --discard'`,
      { facts: { volume: volume.volume, dataset: kept.dataset, version: kept.version } },
    );
  }
  const capacity = volume.capacityBytes ?? DEFAULT_CAPACITY_BYTES;
  try {
    growWorkspaceImage({ file, capacity: volume.capacityBytes ?? 0 });
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
    await making(`the workspace of volume ${volume.volume}`, newWorkspaceBytes(capacity), () =>
      createWorkspaceImage({ file, capacity, templates }),
    );
    faultPoint('stage.workspace-made');
  }
  await prepareMountPoint(at);
  const mounted = await mountWorkspace({ file, at, root: await rootOf(repository, volume), view: volume.view });
  faultPoint('stage.workspace-mounted');
  return mounted;
}

async function rootOf(repository: Repository, { root, dataset }: StagedRecord): Promise<DirectoryEntry> {
  const entry = await findEntry(repository, root, '' as ByteString);
  if (entry?.type === 'directory') return entry;
  throw new CorruptError(`the manifest ${root} of ${dataset} has no root directory`, { facts: { root } });
}
