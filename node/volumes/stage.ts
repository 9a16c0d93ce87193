import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Digest } from '../../dataset/digest.ts';
import { ConflictError } from '../../dataset/errors.ts';
import type { Repository } from '../../dataset/repository.ts';
import { readVersion } from '../../dataset/version.ts';
import { mountOverlay } from '../../mount/overlay.ts';
import { type Unmounted, unmount, unmountAndRemove } from '../../mount/unmount.ts';
import { viewName } from '../../mount/view.ts';
import { faultPoint } from '../../system/fault.ts';
import type { StagedRecord } from '../records.ts';
import { takeWorkspace } from '../saves/take.ts';
import { InUseError, type StageRequest } from '../service-types.ts';
import { discardEphemeral } from './ephemeral.ts';
import { isOurs, mountName, refuseForeign } from './names.ts';
import type { VolumesContext } from './parts.ts';
import { openWorkspace } from './workspace.ts';

export interface VolumeStageRequest extends StageRequest {
  /** A repository's location. */
  readonly repository: string;
  readonly ephemeral?: boolean;
  /** The volume has a record in the repository: a workspace is taken for this node, and its changes are saved there. */
  readonly leased?: boolean;
}

/** See `NodeService.stage`. What is staged already stays what it is, whatever its record has become since. */
export async function stageVolume(context: VolumesContext, asked: VolumeStageRequest): Promise<StagedRecord> {
  const { records, repositories, prefetches, saves } = context;
  const { leased = false, ...request } = asked;
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
  if (known?.state === 'staged') return await stageAgain(context, known, request, repository);
  const isTaken = leased && saves.isMember && request.kind === 'workspace';
  let record: StagedRecord = {
    published: [],
    ...request,
    ...(await contentOf(repository, request.version)),
    ...(leased && { recorded: true }),
    state: 'staging',
  };
  await records.put(record);
  faultPoint('stage.recorded');
  try {
    if (isTaken) {
      // Where this fails, it goes on.
      await saves.interrupt(volume);
      const version = await takeWorkspace(saves, request, context.workspaceOf(volume), request.repository);
      record = { ...record, version, ...(await contentOf(repository, version)) };
      await records.put(record);
    }
    await mountVolume(context, record, repository);
    faultPoint('stage.mounted');
    record = { ...record, state: 'staged' };
    await records.put(record);
  } catch (error) {
    await tearDown(context, record, 'soon');
    throw error;
  }
  saves.begin(record);
  prefetches?.begin(record);
  faultPoint('stage.done');
  return record;
}

/** What a version is, as a record of what is staged has it. */
async function contentOf(repository: Repository, version: Digest): Promise<Pick<StagedRecord, 'root' | 'size'>> {
  const { root, bytes, entries } = await readVersion(repository, version);
  return { root, size: { bytes, entries } };
}

/** Mounts again what is not mounted any more, and fetches what is asked for now. */
async function stageAgain(
  context: VolumesContext,
  known: StagedRecord,
  { prefetch = known.prefetch }: VolumeStageRequest,
  repository: Repository,
): Promise<StagedRecord> {
  await mountVolume(context, known, repository);
  if (prefetch === known.prefetch) return known;
  const record: StagedRecord = { ...known, ...(prefetch !== undefined && { prefetch }) };
  await context.records.put(record);
  context.prefetches?.begin(record);
  return record;
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

/**
 * In the order in which it was built, backwards; each step may have been done before.
 * @param saving when a workspace's last changes are saved: now, or as far as that can be done now; `soon`, which is not waited for long; or by a later `adopt`
 */
export async function tearDown(
  context: VolumesContext,
  record: StagedRecord,
  saving: 'now' | 'soon' | 'later' = 'now',
): Promise<Unmounted> {
  const { prefetches, workspaceOf, versions, records, saves } = context;
  const { volume } = record;
  prefetches?.end(volume);
  const result = await unmount(record.stagingPath);
  faultPoint('unstage.unmounted');
  if (record.kind === 'workspace') {
    // What saves it unmounts its file system too, once nobody can write to it any more.
    if (saving !== 'later' && saves.isOpen(volume)) await saves.end(volume, saving);
    else await unmountAndRemove(workspaceOf(volume).at);
  }
  await versions.release(volume);
  faultPoint('unstage.image-released');
  if (record.ephemeral) await discardEphemeral(context, record);
  records.remove(volume);
  faultPoint('unstage.record-removed');
  return result;
}

async function mountVolume(context: VolumesContext, record: StagedRecord, repository: Repository): Promise<void> {
  const { versions, cache, paths, workspaceOf } = context;
  const image = await versions.acquire(record.volume, { ...record, repository });
  const { objects, late } = cache.layout;
  const layers = { image, objects, wait: join(paths.ring, 'wait'), late, fault: join(paths.ring, 'fault') };
  faultPoint('stage.image-mounted');
  mkdirSync(record.stagingPath, { recursive: true });
  if (isOurs(record)) return;
  const writable =
    record.kind === 'workspace'
      ? await openWorkspace(workspaceOf(record.volume), record, repository, context)
      : undefined;
  await mountOverlay({ layers, target: record.stagingPath, name: mountName(record.volume), writable });
}

function refuseOther(known: StagedRecord, request: VolumeStageRequest): void {
  const same =
    known.repository === request.repository &&
    known.dataset === request.dataset &&
    known.kind === request.kind &&
    known.stagingPath === request.stagingPath &&
    viewName(known.view) === viewName(request.view);
  if (same) return;
  const view = viewName(known.view);
  const seen = view === '' ? 'the owners of the dataset' : `the view ${view}`;
  throw new ConflictError(
    `volume ${request.volume} is staged at ${known.stagingPath} as ${known.kind} of ${known.dataset}@${known.version.slice(0, 12)}, with ${seen}: unstage it first`,
    { facts: { volume: request.volume, stagingPath: known.stagingPath, view } },
  );
}
