import type { KnownVersion, KnownVersions } from '../cache/known-versions.ts';
import type { StageMap } from '../cache/stage-map.ts';
import type { VersionBook } from '../cache/victims.ts';
import type { Repositories } from './repositories.ts';
import type { StageMaps } from './stage-maps.ts';
import type { StagedVersions } from './staging.ts';

export interface VersionBookParts {
  readonly known: KnownVersions;
  readonly versions: StagedVersions;
  readonly maps: StageMaps;
  readonly repositories: Repositories;
}

/** The node's versions, as evicting asks for them. */
export function createVersionBook({ known, versions, maps, repositories }: VersionBookParts): VersionBook {
  const fromRepository = async ({ repository: location, version, root }: KnownVersion) => {
    const repository = await repositories.at(location);
    return await versions.withSource({ repository, version, root }, async ({ map }) => map);
  };
  return {
    all: known.all,
    inUse: versions.isStaged,
    async mapOf(one): Promise<StageMap | undefined> {
      const staged = versions.sources().find(({ version }) => version === one.version);
      if (staged) return staged.map;
      const map = maps.of(one.root);
      // What a pin keeps must be known before anything may go; other versions are not worth a repository's time.
      if (map || !one.pinned) return map;
      try {
        return await fromRepository(one);
      } catch {
        // Whoever asks does without, and asks again.
        return undefined;
      }
    },
    forget: versions.forget,
  };
}
