import { realpathSync } from 'node:fs';
import type { Capacity } from '../cache/capacity.ts';
import type { Hydrator } from '../cache/hydrate.ts';
import type { KnownVersions } from '../cache/known-versions.ts';
import { sha256 } from '../dataset/digest.ts';
import { ConflictError, InvalidError, isErrno, NotFoundError } from '../dataset/errors.ts';
import { resolveName } from '../dataset/refs.ts';
import { readVersion } from '../dataset/version.ts';
import type { MountedVolume, MountRequest, NamedVersion, Progress } from './protocol.ts';
import type { StagedRecord } from './records.ts';
import type { Repositories } from './repositories.ts';
import type { Saves } from './saves/saves.ts';
import { createSerial } from './serial.ts';
import type { Handlers } from './server.ts';
import { holdersOf, type Volumes } from './service.ts';
import { snapshotWorkspace } from './snapshot.ts';
import type { StagePrefetches } from './stage-prefetch.ts';
import type { StagedVersions } from './staging.ts';

export interface CallParts {
  readonly volumes: Volumes;
  readonly versions: StagedVersions;
  readonly hydrator: Hydrator;
  readonly known: KnownVersions;
  readonly capacity: Capacity;
  readonly repositories: Repositories;
  readonly saves?: Pick<Saves, 'commitClone'> | undefined;
}

/** What the command line asks of the daemon about mounts. */
export function createMountCalls(parts: CallParts): Pick<Handlers, 'mount' | 'unmount' | 'snapshot' | 'prefetch'> {
  const { volumes, versions, hydrator, known, capacity, repositories, saves } = parts;
  const snapshots = createSerial();

  const resolve = async ({ repository: location, name }: NamedVersion) => {
    const repository = await repositories.at(location);
    const { dataset, version } = await resolveName(repository, name);
    const { root } = await readVersion(repository, version);
    return { repository, dataset, version, root };
  };

  return {
    mount: (request) => {
      const directory = existingDirectory(request.directory);
      const volume = volumeAt(directory);
      return volumes.lock(volume, async () => {
        const { dataset, version } = await resolve(request);
        const known = volumes.records.get(volume);
        if (known !== undefined && !sameMount(known, request, version)) throw occupied(directory, known);
        const record = await volumes.stage({
          volume,
          repository: request.repository,
          dataset,
          version,
          kind: request.workspace === undefined ? 'pinned' : 'workspace',
          capacityBytes: request.workspace?.capacityBytes,
          ...(request.prefetch !== undefined && { prefetch: request.prefetch }),
          stagingPath: directory,
        });
        return mountedVolume(record);
      });
    },

    unmount: ({ directory: asked, discard = false }) => {
      const directory = existingDirectory(asked);
      const volume = volumes.records.at(directory)?.volume ?? volumeAt(directory);
      return volumes.lock(volume, async () => {
        const result = await volumes.unstage(volume, directory);
        if (discard) await volumes.discard(volume);
        return { directory, unmounted: result.unmounted, heldBy: holdersOf(result) };
      });
    },

    snapshot: (request, { signal, onProgress }) => {
      const directory = existingDirectory(request.directory);
      const record = volumes.records.at(directory) ?? publishedAt(volumes, directory);
      if (record === undefined || record.kind !== 'workspace') {
        throw new NotFoundError(
          `no workspace is mounted on ${directory}${record === undefined ? '' : ', but a pinned version, which cannot change'}: mount one with 'larder mount NAME ${directory} --workspace'`,
          { facts: { directory } },
        );
      }
      return snapshots(record.volume, async () => {
        const repository = await repositories.at(record.repository);
        const workspace = volumes.workspaceOf(record.volume);
        const { lock } = volumes;
        return await snapshotWorkspace({ repository, record, workspace, lock, saves, signal, onProgress }, request);
      });
    },

    prefetch: async (request, { signal, onProgress }) => {
      const { dataset, ...version } = await resolve(request);
      const report = (progress: Omit<Progress, 'phase'>) => onProgress({ phase: 'prefetching', ...progress });
      // It is wanted soon: not the first to go, and not for the sake of its own files.
      using _kept = capacity.keep(version.version);
      const { repository, root } = version;
      await known.touch({ version: version.version, root, repository: repository.location, dataset });
      const { files, bytes } = await versions.withSource(
        version,
        (source) => hydrator.prefetch(source, { pattern: request.pattern, signal, onProgress: report }),
        signal,
      );
      return { dataset, version: version.version, files, bytes };
    },
  };
}

/**
 * @param parts.prefetches what became of what it fetches
 * @param parts.saves what becomes of its changes
 */
export function mountedVolume(
  record: StagedRecord,
  {
    prefetches,
    saves,
  }: { readonly prefetches?: Pick<StagePrefetches, 'stateOf'>; readonly saves?: Pick<Saves, 'stateOf'> } = {},
): MountedVolume {
  const { volume, kind, stagingPath, repository, dataset, version, prefetch: what } = record;
  const state = prefetches?.stateOf(volume);
  const prefetch = state && what !== undefined ? { prefetch: { what, ...state } } : {};
  const saved = saves?.stateOf(volume);
  return {
    volume,
    kind,
    directory: stagingPath,
    repository,
    dataset,
    version,
    ...prefetch,
    ...(saved && { saves: saved }),
  };
}

/** The volume that a pod has there. */
function publishedAt({ records }: Volumes, directory: string): StagedRecord | undefined {
  return records.all().find(({ published }) => published.some(({ targetPath }) => targetPath === directory));
}

/** One volume a mount point: mounted again as a workspace, it finds its changes. */
function volumeAt(directory: string): string {
  return `mount-${sha256(directory).slice(0, 16)}`;
}

function existingDirectory(directory: string): string {
  if (!directory.startsWith('/')) throw new InvalidError(`the directory must be an absolute path, not '${directory}'`);
  try {
    return realpathSync.native(directory);
  } catch (cause) {
    if (isErrno(cause, 'ENOENT') || isErrno(cause, 'ENOTDIR')) {
      throw new NotFoundError(`there is no directory ${directory}: make it first`, { cause, facts: { directory } });
    }
    throw cause;
  }
}

function sameMount(known: StagedRecord, request: MountRequest, version: string): boolean {
  const kind = request.workspace === undefined ? 'pinned' : 'workspace';
  return known.repository === request.repository && known.kind === kind && known.version === version;
}

function occupied(directory: string, known: StagedRecord): ConflictError {
  return new ConflictError(
    `${directory} has ${known.dataset}@${known.version.slice(0, 12)} (${known.kind}) mounted: unmount it first, or choose another directory`,
    { facts: { directory, dataset: known.dataset, version: known.version } },
  );
}
