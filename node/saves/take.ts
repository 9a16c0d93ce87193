import { existsSync, rmSync } from 'node:fs';
import type { Digest } from '../../dataset/digest.ts';
import { ConflictError, InvalidError, NotFoundError } from '../../dataset/errors.ts';
import { HeldError } from '../../dataset/volume-terms.ts';
import { faultPoint } from '../../system/fault.ts';
import type { Taken } from '../ledger.ts';
import type { WorkspacePlace } from '../volumes/workspace.ts';
import { readWorkspaceRecord, type WorkspaceRecord, writeWorkspaceRecord } from '../workspace-record.ts';
import type { Membership } from './leases.ts';
import type { SavesKeeper } from './saves.ts';

export interface WorkspaceToTake {
  readonly volume: string;
  readonly dataset: string;
  /** What its record had a moment ago. */
  readonly version: Digest;
}

/**
 * Takes a workspace for this node, and settles what becomes of the image that it has of it: it goes on with it, or moves it out of the way.
 * What is about to be taken is recorded in the cache before, so that it is given back also where the machine ends here.
 * @returns the version below the workspace
 * Errors: HeldError, NotFoundError as of `Ledger.take`; ConflictError where the image is of another repository.
 */
export async function takeWorkspace(
  saves: Pick<SavesKeeper, 'membership' | 'makeWay'>,
  { volume, dataset, version }: WorkspaceToTake,
  place: WorkspacePlace,
  location: string,
): Promise<Digest> {
  const member = await saves.membership(location);
  const { repository } = member;
  const kept = readWorkspaceRecord(place.record);
  if (kept !== undefined && kept.repository !== repository.id)
    throw new ConflictError(
      `this node has changes to volume ${volume} of another repository than ${location}: put the repository back that was there`,
      { facts: { volume, repository: kept.repository } },
    );
  await member.alive();
  const lease = { name: volume, generation: 0, ...kept?.lease, volume, location, state: 'taking' as const };
  await writeWorkspaceRecord(place.record, { repository: repository.id, dataset, version, ...kept, lease });
  const taken = await take(member, volume, place, kept);
  faultPoint('stage.taken');

  const goesOn = existsSync(place.file) && kept !== undefined && isOf(kept, taken);
  if (!goesOn && kept !== undefined && existsSync(place.file)) await saves.makeWay(volume, kept);
  const { name, lower } = taken.volume;
  await writeWorkspaceRecord(place.record, {
    repository: repository.id,
    dataset,
    version: lower!,
    ...(goesOn && kept.snapshot !== undefined && { snapshot: kept.snapshot }),
    lease: { volume, name, location, generation: taken.generation, state: 'held' },
  });
  faultPoint('stage.workspace-recorded');
  return lower!;
}

async function take(
  { ledger, identity }: Membership,
  volume: string,
  place: WorkspacePlace,
  kept: WorkspaceRecord | undefined,
): Promise<Taken> {
  const hasImage = existsSync(place.file) && kept?.lease !== undefined;
  try {
    const taken = await ledger.take(volume, identity, hasImage ? { image: kept.version } : {});
    if (!hasImage || isOf(kept, taken) || taken.volume.lower === taken.volume.version) return taken;
    // It would begin on another version than the volume's.
    return await ledger.take(volume, identity);
  } catch (error) {
    // It was refused, and so not taken.
    if (error instanceof HeldError || error instanceof NotFoundError || error instanceof InvalidError) {
      if (kept === undefined) rmSync(place.record, { force: true });
      else await writeWorkspaceRecord(place.record, kept);
    }
    throw error;
  }
}

/** Whether the image is the one that the volume's record means. */
function isOf({ version, lease }: WorkspaceRecord, { volume, generation, continues }: Taken): boolean {
  if (lease !== undefined) return continues && lease.generation === generation;
  // Made before there were leases, and the only one that there ever was.
  return generation === 1 && volume.lower === version;
}
