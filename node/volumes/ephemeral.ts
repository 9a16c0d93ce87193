import { readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { ConflictError, InvalidError, isErrno } from '../../dataset/errors.ts';
import { faultPoint } from '../../system/fault.ts';
import type { StagedRecord } from '../records.ts';
import { requireRight } from '../rights.ts';
import type { EphemeralRequest } from '../service-types.ts';
import { readWorkspaceRecord, removeWorkspace } from '../workspace-record.ts';
import type { VolumesContext } from './parts.ts';
import { bindVolume } from './publish.ts';
import { stageVolume, tearDown } from './stage.ts';

export interface VolumeEphemeralRequest extends EphemeralRequest {
  /** A repository's location. */
  readonly repository: string;
}

/**
 * See `NodeService.publishEphemeral`. Repeated, it goes on with the version that is staged: whoever asks has looked its reference up anew,
 * and a pod keeps what it has.
 */
export async function publishEphemeral(context: VolumesContext, request: VolumeEphemeralRequest): Promise<void> {
  const { targetPath, readOnly, pod, ...volume } = request;
  const stagingPath = join(context.paths.ephemeral, encodeURIComponent(volume.volume));
  const known = context.records.get(volume.volume);
  if (!known?.ephemeral) {
    refuseName(volume.volume);
    refuseKept(context, volume.volume);
    await requireRight(context.rights, { ...volume, ...(pod && { pod }) });
    await stageVolume(context, { ...volume, stagingPath, ephemeral: true });
    faultPoint('ephemeral.staged');
  }
  try {
    // It has one pod, and so one place.
    const exclusive = true;
    await bindVolume(context, { volume: volume.volume, stagingPath, targetPath, readOnly, exclusive });
  } catch (error) {
    if (known === undefined) await endEphemeral(context, volume.volume);
    throw error;
  }
  faultPoint('ephemeral.published');
}

/** What it is called is chosen outside, and it becomes the name of files. */
function refuseName(volume: string): void {
  if (/^[\w-][\w.-]{0,127}$/.test(volume)) return;
  throw new InvalidError(
    `the volume's id ${JSON.stringify(volume)} cannot be an ephemeral volume's: letters, digits, '-', '_' and '.', of which it does not begin with '.'`,
    { facts: { volume } },
  );
}

/** What another volume of this id left in the cache is not to be shown, and not to go with a pod. */
function refuseKept({ workspaceOf }: VolumesContext, volume: string): void {
  const kept = readWorkspaceRecord(workspaceOf(volume).record);
  if (kept === undefined || kept.ephemeral) return;
  throw new ConflictError(`volume ${volume} is not an ephemeral one, and this node has changes of it`, {
    facts: { volume },
  });
}

/** Ends an ephemeral volume that no pod has any more: everything of it goes. */
export async function endEphemeral(context: VolumesContext, volume: string): Promise<void> {
  const record = context.records.get(volume);
  if (!record?.ephemeral || record.published.length > 0) return;
  await tearDown(context, record);
}

/** Removes what is in the cache of ephemeral volumes that are not staged: the machine was started anew, and with it all pods. */
export async function sweepEphemeral({ cache, records, workspaceOf }: VolumesContext): Promise<void> {
  for (const name of readdirSync(cache.layout.workspaces)) {
    if (!name.endsWith('.json')) continue;
    const volume = decodeURIComponent(name.slice(0, -'.json'.length));
    if (records.get(volume) !== undefined) continue;
    const place = workspaceOf(volume);
    if (readWorkspaceRecord(place.record)?.ephemeral) await removeWorkspace(place);
  }
}

/** What there is of an ephemeral volume beside its mounts, which are gone. It is removed before its record, which alone knows of it. */
export async function discardEphemeral(
  { workspaceOf }: VolumesContext,
  { volume, stagingPath }: StagedRecord,
): Promise<void> {
  await removeWorkspace(workspaceOf(volume));
  try {
    rmdirSync(stagingPath);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
  faultPoint('ephemeral.discarded');
}
