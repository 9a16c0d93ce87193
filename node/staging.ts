import { mkdirSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import type { Cache } from '../cache/cache.ts';
import type { Making } from '../cache/capacity.ts';
import type { Hydrator, Registration, StagedSource } from '../cache/hydrate.ts';
import type { KnownVersions } from '../cache/known-versions.ts';
import type { Digest } from '../dataset/digest.ts';
import type { Repository } from '../dataset/repository.ts';
import { mountImage } from '../mount/image-mount.ts';
import { unmountAndRemove } from '../mount/unmount.ts';
import type { View } from '../mount/view.ts';
import { ensureImage, imageName, removeImages, tidyImages } from './image-build.ts';
import type { RuntimePaths } from './paths.ts';
import { createSerial } from './serial.ts';
import type { StageMaps } from './stage-maps.ts';
import { VersionLimits, type VolumeLimits } from './version-limits.ts';

export interface VersionToStage {
  readonly repository: Repository;
  readonly version: Digest;
  readonly root: Digest;
}

export interface VersionToMount extends VersionToStage, VolumeLimits {
  readonly dataset: string;
  /** Owners and permissions that the image shows. */
  readonly view?: View | undefined;
}

/** The versions that this node has staged: their images mounted, and their contents known to the hydrator. */
export interface StagedVersions {
  /** Makes the version's image ready and counts `volume` as a user. @returns the image's mount point */
  acquire(volume: string, version: VersionToMount, signal?: AbortSignal): Promise<string>;
  /** An earlier daemon staged this: its version counts as staged, although it is not taken up yet. */
  expect(volume: string, version: Digest): void;
  /** `acquire`, for a volume that is expected. False where it was released meanwhile. */
  takeUp(volume: string, version: VersionToMount, signal?: AbortSignal): Promise<boolean>;
  /** Makes the damaged stage map of a manifest anew: now where it is staged, else when it is needed. */
  renew(root: Digest): Promise<void>;
  /** Forgets a version that is not staged, with its image and stage map where no other known version has them. */
  forget(version: Pick<VersionToStage, 'version' | 'root'>): Promise<void>;
  /** Changes what a volume that has a version staged is allowed from now on. */
  limit(volume: string, limits: VolumeLimits): void;
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
  readonly limits: VersionLimits;
  /** Volumes, and what each one's image shows and where it is mounted. */
  readonly users: Map<string, { readonly view: View | undefined; readonly at: string }>;
}

const EROFS_SUPER_MAGIC = 0xe0f5e1e2;

export interface StagedVersionsParts {
  readonly cache: Cache;
  readonly hydrator: Hydrator;
  readonly known: KnownVersions;
  readonly paths: RuntimePaths;
  readonly maps: StageMaps;
  /** Takes room for images. */
  readonly making: Making;
}

export function createStagedVersions({
  cache,
  hydrator,
  known,
  paths,
  maps,
  making,
}: StagedVersionsParts): StagedVersions {
  const staged = new Map<string, Staged>();
  const expected = new Map<string, Digest>();
  const serial = createSerial();
  const mountPointOf = (root: Digest, view: View | undefined) => join(paths.images, imageName(root, view));

  const mountOnce = async (file: string, at: string) => {
    mkdirSync(at, { recursive: true, mode: 0o700 });
    if (statfsSync(at).type !== EROFS_SUPER_MAGIC) await mountImage({ file, at });
    return at;
  };

  const imageOf = async (version: VersionToStage, view?: View, signal?: AbortSignal) => {
    const { file, map } = await ensureImage(cache.layout.images, version, { view, making, signal });
    return { file, map: maps.add(map) };
  };

  const isUsed = (at: string) => staged.values().some(({ users }) => users.values().some((user) => user.at === at));

  const isTakenUp = (volume: string) => staged.values().some(({ users }) => users.has(volume));

  const unmountUnused = async (at: string) => {
    if (!isUsed(at)) await unmountAndRemove(at);
  };

  /** @param isWanted asked at the end, when nothing is awaited any more */
  const acquire = (volume: string, wanted: VersionToMount, signal: AbortSignal | undefined, isWanted: () => boolean) =>
    serial(wanted.root, async () => {
      const { repository, dataset, version, root, view } = wanted;
      const key = keyOf(repository, version);
      const at = mountPointOf(root, view);
      const isReady = staged.has(key) && isUsed(at);
      if (!isReady) hydrator.crew.prepare();
      const image = isReady ? undefined : await imageOf(wanted, view, signal);
      if (image !== undefined) {
        await mountOnce(image.file, at);
        // Those of an earlier daemon's volumes are not known yet.
        if (expected.keys().every(isTakenUp))
          tidyImages(cache.layout.images, root, imageName(root, view), (name) => isUsed(join(paths.images, name)));
        await known.touch({ version, root, repository: repository.location, dataset });
      }
      if (!isWanted()) {
        await unmountUnused(at);
        return at;
      }
      const before = staged.get(key);
      const limits = before?.limits ?? new VersionLimits();
      limits.set(volume, wanted);
      if (before !== undefined) before.users.set(volume, { view, at });
      else {
        const source: StagedSource = { repository, version, root, map: image!.map, limits };
        const users = new Map([[volume, { view, at }]]);
        staged.set(key, { source, registration: hydrator.register(source), limits, users });
      }
      return at;
    });

  const isStaged = (version: Digest) =>
    staged.values().some(({ source }) => source.version === version) ||
    expected.values().some((one) => one === version);

  return {
    acquire: (volume, version, signal) => acquire(volume, version, signal, () => true),

    expect: (volume, version) => {
      expected.set(volume, version);
    },

    async takeUp(volume, version, signal) {
      const isWanted = () => expected.has(volume);
      if (isWanted()) await acquire(volume, version, signal, isWanted);
      return isWanted();
    },

    isStaged,

    sources: () => [...staged.values()].map(({ source }) => source),

    async withSource({ repository, version, root }, task, signal) {
      const before = staged.get(keyOf(repository, version));
      if (before !== undefined) return await task(before.source);
      const map = await serial(
        root,
        async () => maps.of(root) ?? (await imageOf({ repository, version, root }, undefined, signal)).map,
      );
      const source: StagedSource = { repository, version, root, map };
      using _registration = hydrator.register(source);
      return await task(source);
    },

    renew: (root) =>
      serial(root, async () => {
        rmSync(join(cache.layout.images, `${root}.map`), { force: true });
        for (const [key, one] of [...staged]) {
          const { source, registration, users } = one;
          if (source.root !== root) continue;
          const { map } = await imageOf(source, users.values().next().value?.view);
          const renewed = { ...source, map };
          staged.set(key, { ...one, source: renewed, registration: hydrator.register(renewed) });
          registration.dispose();
        }
      }),

    // Never beside the staging of the same manifest: what is staged must be known.
    forget: ({ version, root }) =>
      serial(root, async () => {
        if (isStaged(version)) return;
        known.forget(version);
        const used = staged.values().some(({ source }) => source.root === root);
        if (used || known.all().some((one) => one.root === root)) return;
        removeImages(cache.layout.images, root);
      }),

    limit(volume, limits) {
      for (const one of staged.values()) if (one.users.has(volume)) one.limits.set(volume, limits);
    },

    async release(volume) {
      expected.delete(volume);
      for (const [key, { source, users }] of [...staged]) {
        if (!users.has(volume)) continue;
        await serial(source.root, async () => {
          const one = staged.get(key);
          const user = one?.users.get(volume);
          if (one === undefined || user === undefined) return;
          one.users.delete(volume);
          one.limits.delete(volume);
          if (one.users.size === 0) {
            staged.delete(key);
            one.registration.dispose();
          }
          await unmountUnused(user.at);
        });
      }
    },
  };
}

/** By version, not by root: versions with the same tree may be of different repositories. */
function keyOf(repository: Repository, version: Digest): string {
  return `${repository.id} ${version}`;
}
