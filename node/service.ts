import { mkdirSync, realpathSync, rmdirSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import type { Cache } from '../cache/cache.ts';
import type { Making } from '../cache/capacity.ts';
import type { ByteString } from '../dataset/byte-string.ts';
import type { Digest } from '../dataset/digest.ts';
import type { DirectoryEntry } from '../dataset/entry.ts';
import { ConflictError, CorruptError, isErrno, NotFoundError } from '../dataset/errors.ts';
import { findEntry } from '../dataset/manifest.ts';
import type { Repository } from '../dataset/repository.ts';
import { readVersion } from '../dataset/version.ts';
import { bind } from '../mount/bind.ts';
import { describeHolder } from '../mount/holders.ts';
import { type MountRecord, mountAt } from '../mount/mount-table.ts';
import { mountOverlay } from '../mount/overlay.ts';
import { thawLeftover } from '../mount/snapshot.ts';
import { cleanLeftovers, type Unmounted, unmount, unmountAndRemove } from '../mount/unmount.ts';
import { createWorkspaceImage, growWorkspaceImage, mountWorkspace, newWorkspaceBytes } from '../mount/workspace.ts';
import { aboutVolume, type Logger } from './log.ts';
import type { RuntimePaths } from './paths.ts';
import { openRecords, type StagedRecord, type StagedRecords } from './records.ts';
import type { Recovery } from './recovery.ts';
import type { Repositories } from './repositories.ts';
import {
  InUseError,
  type NodeService,
  type PublishRequest,
  type StageRequest,
  type VolumeStats,
} from './service-types.ts';
import type { StagePrefetches } from './stage-prefetch.ts';
import type { StagedVersions } from './staging.ts';
import { readWorkspaceRecord, removeWorkspace, writeWorkspaceRecord } from './workspace-record.ts';

/** A workspace's room for changes where nobody says how much: the file is sparse, so it costs what is written. */
export const DEFAULT_CAPACITY_BYTES = 10 * 2 ** 30;

/** `NodeService`, for volumes of any repository. */
export interface Volumes {
  stage(request: StageRequest & { readonly repository: string }): Promise<StagedRecord>;
  /** @returns what held the mount, where somebody did */
  unstage(volume: string, stagingPath: string): Promise<Unmounted>;
  publish: NodeService['publish'];
  unpublish: NodeService['unpublish'];
  stats: NodeService['stats'];
  /** Removes a workspace's changes; it must not be staged. */
  discard(volume: string): void;
  /** Takes up what an earlier daemon staged, and clears away what it had half done. */
  recover(parts: RecoverParts): Promise<void>;
  readonly records: StagedRecords;
  /** Where a workspace is kept. */
  workspaceOf(volume: string): WorkspacePlace;
}

export interface RecoverParts {
  readonly log: Logger;
  /** Takes up what needs a repository, beside the daemon's other work. */
  readonly recovery: Recovery;
  /** A volume of this version can be asked for again. */
  readonly onTakenUp?: (version: Digest) => void;
}

export interface WorkspacePlace {
  /** Where its file system is mounted while it is staged. */
  readonly at: string;
  readonly file: string;
  /** Its `WorkspaceRecord`. */
  readonly record: string;
}

export interface VolumesParts {
  readonly cache: Cache;
  readonly versions: StagedVersions;
  readonly paths: RuntimePaths;
  readonly repositories: Repositories;
  /** Takes room for workspaces. */
  readonly making: Making;
  readonly prefetches?: Pick<StagePrefetches, 'begin' | 'end'>;
}

export function createVolumes({ cache, versions, paths, repositories, making, prefetches }: VolumesParts): Volumes {
  const records = openRecords(paths.staged);
  const workspaceOf = (volume: string) => ({
    at: join(paths.workspaces, encodeURIComponent(volume)),
    file: join(cache.layout.workspaces, `${encodeURIComponent(volume)}.xfs`),
    record: join(cache.layout.workspaces, `${encodeURIComponent(volume)}.json`),
  });

  async function mountVolume(record: StagedRecord, repository: Repository): Promise<void> {
    const image = await versions.acquire(record.volume, { ...record, repository });
    const { objects, late } = cache.layout;
    const layers = { image, objects, wait: join(paths.ring, 'wait'), late, fault: join(paths.ring, 'fault') };
    mkdirSync(record.stagingPath, { recursive: true });
    if (isOurs(record)) return;
    const writable = record.kind === 'workspace' ? await openWorkspace(record, repository) : undefined;
    await mountOverlay({ layers, target: record.stagingPath, name: mountName(record.volume), writable });
  }

  async function openWorkspace(record: StagedRecord, repository: Repository) {
    const { at, file, record: recordFile } = workspaceOf(record.volume);
    const kept = readWorkspaceRecord(recordFile);
    if (kept === undefined) {
      const { dataset, version } = record;
      await writeWorkspaceRecord(recordFile, { repository: repository.id, dataset, version });
    } else if (kept.repository !== repository.id || kept.version !== record.version) {
      throw new ConflictError(
        `volume ${record.volume} has changes to ${kept.dataset}@${kept.version.slice(0, 12)}: mount that version, or drop them with 'larder unmount ${record.stagingPath} --discard'`,
        { facts: { volume: record.volume, dataset: kept.dataset, version: kept.version } },
      );
    }
    const capacity = record.capacityBytes ?? DEFAULT_CAPACITY_BYTES;
    try {
      growWorkspaceImage({ file, capacity: record.capacityBytes ?? 0 });
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
      await making(`the workspace of volume ${record.volume}`, newWorkspaceBytes(capacity), () =>
        createWorkspaceImage({ file, capacity }),
      );
    }
    mkdirSync(at, { recursive: true, mode: 0o700 });
    return await mountWorkspace({ file, at, root: await rootOf(repository, record) });
  }

  /** In the order in which it was built, backwards; each step may have been done before. */
  async function tearDown(record: StagedRecord): Promise<Unmounted> {
    prefetches?.end(record.volume);
    const result = await unmount(record.stagingPath);
    if (record.kind === 'workspace') await unmountAndRemove(workspaceOf(record.volume).at);
    await versions.release(record.volume);
    records.remove(record.volume);
    return result;
  }

  const staged = (volume: string, stagingPath: string): StagedRecord => {
    const record = records.get(volume);
    if (record?.state === 'staged' && record.stagingPath === stagingPath && isOurs(record)) return record;
    throw new NotFoundError(`volume ${volume} is not staged at ${stagingPath}: stage it first`, {
      facts: { volume, stagingPath },
    });
  };

  return {
    records,
    workspaceOf,

    async stage(request) {
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
      const { root } = await readVersion(repository, request.version);
      const record: StagedRecord = { published: [], ...known, ...request, root, state: 'staging' };
      if (known?.state !== 'staged') await records.put(record);
      try {
        await mountVolume(record, repository);
      } catch (error) {
        if (known?.state !== 'staged') await tearDown(record);
        throw error;
      }
      if (known?.state === 'staged' && (request.prefetch ?? known.prefetch) === known.prefetch) return known;
      const done: StagedRecord = { ...record, state: 'staged' };
      await records.put(done);
      prefetches?.begin(done);
      return done;
    },

    async unstage(volume, stagingPath) {
      const record = records.get(volume);
      if (record === undefined || record.stagingPath !== stagingPath) {
        return { unmounted: false, detached: false, holders: [] };
      }
      const [target] = record.published;
      if (target !== undefined) {
        throw new InUseError(`volume ${volume} is still published at ${target.targetPath}: unpublish it first`, {
          facts: { volume, targetPath: target.targetPath },
        });
      }
      return await tearDown(record);
    },

    async publish({ volume, stagingPath, targetPath, readOnly, exclusive = false }: PublishRequest) {
      const record = staged(volume, stagingPath);
      const wanted = { targetPath, readOnly, exclusive };
      const same = record.published.find((target) => target.targetPath === targetPath);
      if (same !== undefined && same.readOnly !== readOnly) {
        throw new ConflictError(
          `volume ${volume} is published at ${targetPath} ${same.readOnly ? 'read-only' : 'writable'}: unpublish it first`,
          { facts: { volume, targetPath } },
        );
      }
      const other = record.published.find((target) => target !== same && (exclusive || target.exclusive));
      if (other !== undefined) {
        throw new InUseError(
          `volume ${volume} is published at ${other.targetPath}, and may be at one place only: unpublish it there first`,
          { facts: { volume, targetPath: other.targetPath } },
        );
      }
      mkdirSync(targetPath, { recursive: true });
      if (same === undefined) {
        refuseForeign(targetPath);
        // Recorded first: what is bound has a record, also after a crash in between.
        await records.put({ ...record, published: [...record.published, wanted] });
      }
      if (!isOurs(record, targetPath)) bind(stagingPath, targetPath, { readOnly });
    },

    async unpublish(volume, targetPath) {
      const mounted = mountedAt(targetPath);
      if (mounted !== undefined && mounted.source !== sourceName(volume)) {
        throw new ConflictError(
          `at ${targetPath} is not volume ${volume} but ${mounted.type} ${mounted.source}: it is left alone; unmount it yourself`,
          { facts: { volume, targetPath } },
        );
      }
      await unmountAndRemove(targetPath);
      const record = records.get(volume);
      if (record === undefined) return;
      const published = record.published.filter((target) => target.targetPath !== targetPath);
      if (published.length !== record.published.length) await records.put({ ...record, published });
    },

    async stats(volume, path): Promise<VolumeStats> {
      const record = records.get(volume);
      const known = record?.stagingPath === path || record?.published.some((target) => target.targetPath === path);
      if (record === undefined || !known || !isOurs(record, path)) {
        throw new NotFoundError(`volume ${volume} is neither staged nor published at ${path}`, {
          facts: { volume, path },
        });
      }
      if (record.kind === 'workspace') {
        const { bsize, blocks, bfree, bavail, files, ffree } = statfsSync(path);
        return {
          bytes: { total: blocks * bsize, used: (blocks - bfree) * bsize, available: bavail * bsize },
          inodes: { total: files, used: files - ffree, available: ffree },
        };
      }
      const repository = await repositories.at(record.repository);
      const { bytes, entries } = await readVersion(repository, record.version);
      return {
        bytes: { total: bytes, used: bytes, available: 0 },
        inodes: { total: entries, used: entries, available: 0 },
      };
    },

    discard(volume) {
      if (records.get(volume) !== undefined) {
        throw new InUseError(`volume ${volume} is staged: unmount it first`, { facts: { volume } });
      }
      removeWorkspace(workspaceOf(volume));
    },

    async recover({ log, recovery, onTakenUp }) {
      const takeUpLater = ({ volume, ...rest }: StagedRecord) => {
        versions.expect(volume, rest.version);
        recovery.begin({
          name: volume,
          about: aboutVolume({ volume, ...rest }),
          takeUp: async (signal) => {
            const repository = await repositories.at(rest.repository);
            return await versions.takeUp(volume, { ...rest, repository }, signal);
          },
          onTakenUp: () => {
            prefetches?.begin({ volume, ...rest });
            onTakenUp?.(rest.version);
          },
        });
      };
      for (const record of records.all()) {
        try {
          if (record.state !== 'staged' || !isOurs(record)) {
            await tearDown(record);
            continue;
          }
          takeUpLater(record);
          if (record.kind === 'workspace' && thawLeftover(workspaceOf(record.volume).at)) {
            const text = `workspace ${record.volume} had been left frozen by a snapshot that was cut short: it goes on`;
            log.warn(text, aboutVolume(record));
          }
        } catch (error) {
          const text = `volume ${record.volume} could not be taken up again: ${(error as Error).message}`;
          log.error(text, { ...aboutVolume(record), error });
        }
      }
      // Clones of snapshots that were cut short, and images whose last volume went.
      const kept = records.all().flatMap(({ volume, root }) => [workspaceOf(volume).at, join(paths.images, root)]);
      for (const directory of [paths.workspaces, paths.images]) {
        for (const { mountPoint } of await cleanLeftovers(directory, (point) => kept.includes(point))) {
          rmdirSync(mountPoint);
        }
      }
    },
  };
}

/** What the mount table calls a volume's mount; a long id is cut, for the kernel takes 255 bytes. */
function mountName(volume: string): string {
  return volume.slice(0, 128);
}

/** The mount table's source of a volume's mount, and of its binds. */
function sourceName(volume: string): string {
  return `larder:${mountName(volume)}`;
}

/** The mount at `path`, whose folders may be symbolic links; undefined also where there is no such path. */
function mountedAt(path: string): MountRecord | undefined {
  try {
    return mountAt(realpathSync.native(path));
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Whether this volume's overlay, or a bind of it, is what is mounted there. */
function isOurs(record: StagedRecord, path = record.stagingPath): boolean {
  return mountedAt(path)?.source === sourceName(record.volume);
}

function refuseForeign(path: string): void {
  const mounted = mountedAt(path);
  if (mounted === undefined) return;
  throw new ConflictError(
    `on ${path} is mounted ${mounted.type} ${mounted.source}: unmount it, or choose another directory`,
    {
      facts: { path, type: mounted.type },
    },
  );
}

function refuseOther(known: StagedRecord, request: StageRequest & { readonly repository: string }): void {
  const same =
    known.repository === request.repository &&
    known.version === request.version &&
    known.kind === request.kind &&
    known.stagingPath === request.stagingPath;
  if (same) return;
  throw new ConflictError(
    `volume ${request.volume} is staged at ${known.stagingPath} as ${known.kind} of ${known.dataset}@${known.version.slice(0, 12)}: unstage it first`,
    { facts: { volume: request.volume, stagingPath: known.stagingPath } },
  );
}

async function rootOf(repository: Repository, { root, dataset }: StagedRecord): Promise<DirectoryEntry> {
  const entry = await findEntry(repository, root, '' as ByteString);
  if (entry?.type === 'directory') return entry;
  throw new CorruptError(`the manifest ${root} of ${dataset} has no root directory`, { facts: { root } });
}

/** For the answer to whoever unmounted. */
export function holdersOf(result: Unmounted): string[] {
  return result.holders.map(describeHolder);
}

/** The volumes of one repository, as the CSI services ask for them. */
export function nodeServiceOf(volumes: Volumes, repository: string): NodeService {
  return {
    async stage(request) {
      await volumes.stage({ ...request, repository });
    },
    async unstage(volume, stagingPath) {
      await volumes.unstage(volume, stagingPath);
    },
    publish: volumes.publish,
    unpublish: volumes.unpublish,
    stats: volumes.stats,
    discard: async (volume) => volumes.discard(volume),
  };
}
