import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ConflictError } from '../../dataset/errors.ts';
import type { Repository } from '../../dataset/repository.ts';
import { readVersion } from '../../dataset/version.ts';
import { mountOverlay } from '../../mount/overlay.ts';
import { type Unmounted, unmount, unmountAndRemove } from '../../mount/unmount.ts';
import { viewName } from '../../mount/view.ts';
import type { StagedRecord } from '../records.ts';
import { InUseError, type StageRequest } from '../service-types.ts';
import { discardEphemeral } from './ephemeral.ts';
import { isOurs, mountName, refuseForeign } from './names.ts';
import type { VolumesContext } from './parts.ts';
import { openWorkspace } from './workspace.ts';

export interface VolumeStageRequest extends StageRequest {
  /** A repository's location. */
  readonly repository: string;
  readonly ephemeral?: boolean;
}

/** See `NodeService.stage`. */
export async function stageVolume(context: VolumesContext, request: VolumeStageRequest): Promise<StagedRecord> {
  const { records, repositories, prefetches } = context;
  const { volume, stagingPath } = request;
  const known = records.get(volume);
  if (known !== undefined) refuseOther(known, request);
  const there = records.at(stagingPath);
  if (there !== undefined && there.volume !== volume) {
    throw new ConflictError(`${stagingPath} has volume ${there.volume}: unstage it first, or choose another path`, {
      facts: { stagingPath, volume: there.volume },
    });
  }
  if (known === undefined) refuseForeign(stagingPath);
  const repository = await repositories.at(request.repository);
  const { root, bytes, entries } = await readVersion(repository, request.version);
  const record: StagedRecord = {
    published: [],
    ...known,
    ...request,
    root,
    size: { bytes, entries },
    state: 'staging',
  };
  if (known?.state !== 'staged') await records.put(record);
  try {
    await mountVolume(context, record, repository);
  } catch (error) {
    if (known?.state !== 'staged') await tearDown(context, record);
    throw error;
  }
  if (known?.state === 'staged' && (request.prefetch ?? known.prefetch) === known.prefetch) return known;
  const done: StagedRecord = { ...record, state: 'staged' };
  await records.put(done);
  prefetches?.begin(done);
  return done;
}

/**
 * See `NodeService.unstage`.
 * @returns what held the mount, where somebody did
 */
export async function unstageVolume(context: VolumesContext, volume: string, stagingPath: string): Promise<Unmounted> {
  const record = context.records.get(volume);
  if (record === undefined || record.stagingPath !== stagingPath) {
    return { unmounted: false, detached: false, holders: [] };
  }
  const [target] = record.published;
  if (target !== undefined) {
    throw new InUseError(`volume ${volume} is still published at ${target.targetPath}: unpublish it first`, {
      facts: { volume, targetPath: target.targetPath },
    });
  }
  return await tearDown(context, record);
}

/** In the order in which it was built, backwards; each step may have been done before. */
export async function tearDown(context: VolumesContext, record: StagedRecord): Promise<Unmounted> {
  const { prefetches, workspaceOf, versions, records } = context;
  prefetches?.end(record.volume);
  const result = await unmount(record.stagingPath);
  if (record.kind === 'workspace') await unmountAndRemove(workspaceOf(record.volume).at);
  await versions.release(record.volume);
  if (record.ephemeral) discardEphemeral(context, record);
  records.remove(record.volume);
  return result;
}

async function mountVolume(context: VolumesContext, record: StagedRecord, repository: Repository): Promise<void> {
  const { versions, cache, paths, workspaceOf, making } = context;
  const image = await versions.acquire(record.volume, { ...record, repository });
  const { objects, late } = cache.layout;
  const layers = { image, objects, wait: join(paths.ring, 'wait'), late, fault: join(paths.ring, 'fault') };
  mkdirSync(record.stagingPath, { recursive: true });
  if (isOurs(record)) return;
  const writable =
    record.kind === 'workspace'
      ? await openWorkspace(workspaceOf(record.volume), record, repository, making)
      : undefined;
  await mountOverlay({ layers, target: record.stagingPath, name: mountName(record.volume), writable });
}

function refuseOther(known: StagedRecord, request: VolumeStageRequest): void {
  const same =
    known.repository === request.repository &&
    known.version === request.version &&
    known.kind === request.kind &&
    known.stagingPath === request.stagingPath &&
    viewName(known.view) === viewName(request.view);
  if (same) return;
  throw new ConflictError(
    `volume ${request.volume} is staged at ${known.stagingPath} as ${known.kind} of ${known.dataset}@${known.version.slice(0, 12)}: unstage it first`,
    { facts: { volume: request.volume, stagingPath: known.stagingPath } },
  );
}
