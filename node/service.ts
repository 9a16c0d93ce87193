import { describeHolder } from '../mount/holders.ts';
import type { Unmounted } from '../mount/unmount.ts';
import { createXfsTemplates } from '../mount/xfs-template.ts';
import { type Logger, silentLogger } from './log.ts';
import { openRecords, type StagedRecord, type StagedRecords } from './records.ts';
import { everyoneMay } from './rights.ts';
import { createSaves, type SavesKeeper } from './saves/saves.ts';
import { createSerial, type Serial } from './serial.ts';
import { InUseError, type NodeService } from './service-types.ts';
import { volumeCondition } from './volumes/condition.ts';
import { publishEphemeral, type VolumeEphemeralRequest } from './volumes/ephemeral.ts';
import { expandVolume } from './volumes/expand.ts';
import type { VolumesContext, VolumesParts } from './volumes/parts.ts';
import { publishVolume, unpublishVolume } from './volumes/publish.ts';
import { type RecoverParts, recoverVolumes } from './volumes/recover.ts';
import { stageVolume, unstageVolume, type VolumeStageRequest } from './volumes/stage.ts';
import { volumeStats } from './volumes/stats.ts';
import { type WorkspacePlace, workspacePlace } from './volumes/workspace.ts';

/** `NodeService`, for volumes of any repository. */
export interface Volumes {
  stage(request: VolumeStageRequest): Promise<StagedRecord>;
  /** @returns what held the mount, where somebody did */
  unstage(volume: string, stagingPath: string): Promise<Unmounted>;
  publish: NodeService['publish'];
  unpublish: NodeService['unpublish'];
  publishEphemeral(request: VolumeEphemeralRequest): Promise<void>;
  stats: NodeService['stats'];
  expand: NodeService['expand'];
  condition: NodeService['condition'];
  /** Removes a workspace's changes; it must not be staged, nor be saved still. */
  discard(volume: string): Promise<void>;
  /** Takes up what an earlier daemon staged, and clears away what it had half done. */
  recover(parts: RecoverParts): Promise<void>;
  readonly records: StagedRecords;
  /** One thing at a time is done with a volume, whoever asks for it; whoever calls the functions above holds it. */
  readonly lock: Serial;
  /** What becomes of the changes to workspaces. */
  readonly saves: SavesKeeper;
  /** Where a workspace is kept. */
  workspaceOf(volume: string): WorkspacePlace;
}

export function createVolumes(parts: VolumesParts): Volumes {
  const records = openRecords(parts.paths.staged);
  const workspaceOf = (volume: string) => workspacePlace(parts.paths.workspaces, parts.cache.layout.workspaces, volume);
  const lock = createSerial();
  const saves = createSaves({ ...parts, log: parts.log ?? silentLogger, records, lock, workspaceOf });
  const rights = parts.rights ?? everyoneMay;
  const templates = createXfsTemplates();
  const context: VolumesContext = { ...parts, rights, records, lock, workspaceOf, saves, templates };
  return {
    records,
    lock,
    workspaceOf,
    stage: (request) => stageVolume(context, request),
    unstage: (volume, stagingPath) => unstageVolume(context, volume, stagingPath),
    publish: (request) => publishVolume(context, request),
    unpublish: (volume, targetPath) => unpublishVolume(context, volume, targetPath),
    publishEphemeral: (request) => publishEphemeral(context, request),
    stats: (volume, path) => volumeStats(context, volume, path),
    expand: (volume, path, capacityBytes) => expandVolume(context, volume, path, capacityBytes),
    condition: (volume) => volumeCondition(context, volume),
    recover: (recoverParts) => recoverVolumes(context, recoverParts),
    async discard(volume) {
      if (records.get(volume) !== undefined) {
        throw new InUseError(`volume ${volume} is staged: unmount it first`, { facts: { volume } });
      }
      await saves.discard(volume);
    },
    saves,
  };
}

/** For the answer to whoever unmounted. */
export function holdersOf(result: Unmounted): string[] {
  return result.holders.map(describeHolder);
}

/** The volumes of one repository, as the CSI services ask for them. */
export function nodeServiceOf(volumes: Volumes, repository: string, log: Logger = silentLogger): NodeService {
  return {
    async stage(request) {
      await volumes.lock(request.volume, () => volumes.stage({ ...request, repository, leased: true }));
    },
    async unstage(volume, stagingPath) {
      const result = await volumes.lock(volume, () => volumes.unstage(volume, stagingPath));
      const holders = holdersOf(result);
      if (holders.length === 0) return;
      const text = `volume ${volume} is unstaged from ${stagingPath}, and its mount goes when those let go who hold it: ${holders.join(', ')}`;
      log.warn(text, { volume });
    },
    publish: (request) => volumes.lock(request.volume, () => volumes.publish(request)),
    unpublish: (volume, targetPath) => volumes.lock(volume, () => volumes.unpublish(volume, targetPath)),
    publishEphemeral: (request) =>
      volumes.lock(request.volume, () => volumes.publishEphemeral({ ...request, repository })),
    expand: (volume, path, capacityBytes) => volumes.lock(volume, () => volumes.expand(volume, path, capacityBytes)),
    // Without the lock: they change nothing, and answer while a long call is under way.
    stats: volumes.stats,
    condition: volumes.condition,
    staged: (volume) => volumes.records.get(volume),
    discard: (volume) => volumes.lock(volume, async () => volumes.discard(volume)),
  };
}
