import { mkdirSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import type { Cache } from '../cache/cache.ts';
import type { Hydrator, Registration, StagedSource } from '../cache/hydrate.ts';
import type { KnownVersions } from '../cache/known-versions.ts';
import type { Digest } from '../dataset/digest.ts';
import type { Repository } from '../dataset/repository.ts';
import { mountImage } from '../mount/image-mount.ts';
import { unmountAndRemove } from '../mount/unmount.ts';
import { ensureImage } from './image-build.ts';
import type { RuntimePaths } from './paths.ts';
import { createSerial } from './serial.ts';

export interface VersionToStage {
  readonly repository: Repository;
  readonly version: Digest;
  readonly root: Digest;
}

export interface VersionToMount extends VersionToStage {
  readonly dataset: string;
}

/** The versions that this node has staged: their images mounted, and their contents known to the hydrator. */
export interface StagedVersions {
  /** Makes the version's image ready and counts `volume` as a user. @returns the image's mount point */
  acquire(volume: string, version: VersionToMount, signal?: AbortSignal): Promise<string>;
  /** Ends `volume`'s use; the image of a version that nobody uses is unmounted. Its files stay in the cache. */
  release(volume: string): Promise<void>;
  isStaged(version: Digest): boolean;
  sources(): readonly StagedSource[];
  /** The version as the hydrator needs it, mounted or not: its stage map is made where there is none. */
  withSource<T>(version: VersionToStage, task: (source: StagedSource) => Promise<T>, signal?: AbortSignal): Promise<T>;
}

interface Staged {
  readonly source: StagedSource;
  readonly registration: Registration;
  readonly users: Set<string>;
}

const EROFS_SUPER_MAGIC = 0xe0f5e1e2;

export interface StagedVersionsParts {
  readonly cache: Cache;
  readonly hydrator: Hydrator;
  readonly known: KnownVersions;
  readonly paths: RuntimePaths;
}

export function createStagedVersions({ cache, hydrator, known, paths }: StagedVersionsParts): StagedVersions {
  const staged = new Map<string, Staged>();
  const serial = createSerial();
  const mountPointOf = (root: Digest) => join(paths.images, root);

  const mountOnce = async (file: string, root: Digest) => {
    const at = mountPointOf(root);
    mkdirSync(at, { recursive: true, mode: 0o700 });
    if (statfsSync(at).type !== EROFS_SUPER_MAGIC) await mountImage({ file, at });
    return at;
  };

  return {
    acquire: (volume, { repository, dataset, version, root }, signal) =>
      serial(root, async () => {
        const key = keyOf(repository, version);
        const before = staged.get(key);
        if (before !== undefined) {
          before.users.add(volume);
          return mountPointOf(root);
        }
        const { file, map } = await ensureImage(cache.layout.images, { repository, version, root }, signal);
        const at = await mountOnce(file, root);
        const source: StagedSource = { repository, version, root, map };
        const registration = hydrator.register(source);
        await known.touch({ version, root, repository: repository.location, dataset });
        staged.set(key, { source, registration, users: new Set([volume]) });
        return at;
      }),

    isStaged: (version) => staged.values().some(({ source }) => source.version === version),

    sources: () => [...staged.values()].map(({ source }) => source),

    async withSource({ repository, version, root }, task, signal) {
      const before = staged.get(keyOf(repository, version));
      if (before !== undefined) return await task(before.source);
      const { map } = await serial(root, () => ensureImage(cache.layout.images, { repository, version, root }, signal));
      const source: StagedSource = { repository, version, root, map };
      using _registration = hydrator.register(source);
      return await task(source);
    },

    async release(volume) {
      for (const [key, one] of staged) {
        if (!one.users.has(volume)) continue;
        const { root } = one.source;
        await serial(root, async () => {
          one.users.delete(volume);
          if (one.users.size > 0) return;
          staged.delete(key);
          one.registration.dispose();
          if (staged.values().some(({ source }) => source.root === root)) return;
          await unmountAndRemove(mountPointOf(root));
        });
      }
    },
  };
}

/** By version, not by root: versions with the same tree may be of different repositories. */
function keyOf(repository: Repository, version: Digest): string {
  return `${repository.id} ${version}`;
}
