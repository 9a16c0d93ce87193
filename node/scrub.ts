import type { Cache } from '../cache/cache.ts';
import { createHealer, type Healer } from '../cache/heal.ts';
import type { Hydrator } from '../cache/hydrate.ts';
import type { CacheIndex } from '../cache/index.ts';
import type { KnownVersions } from '../cache/known-versions.ts';
import { type KnownSources, type Scrub, startScrub } from '../cache/scrub.ts';
import type { StagedSource } from '../cache/segment-reader.ts';
import { CorruptError } from '../dataset/errors.ts';
import { releaseDentries } from '../mount/release-dentries.ts';
import type { Logger } from './log.ts';
import type { Repositories } from './repositories.ts';
import type { StageMaps } from './stage-maps.ts';
import type { StagedVersions } from './staging.ts';

/** What finds and mends damage on a node's disk. */
export interface Care extends AsyncDisposable {
  readonly healer: Healer;
  /** Undefined where it is turned off. */
  readonly scrub: Scrub | undefined;
  /** Every version that this node knows, as far as its repository can be opened now. */
  sources(): Promise<KnownSources>;
}

export interface CareParts {
  readonly cache: Cache;
  readonly index: CacheIndex;
  readonly hydrator: Hydrator;
  readonly known: KnownVersions;
  readonly versions: StagedVersions;
  readonly maps: StageMaps;
  readonly repositories: Repositories;
  readonly log: Logger;
  /** In bytes a second: see `ScrubOptions`. 0: there is no scrub. */
  readonly scrubRate?: number;
}

export function startCare(parts: CareParts): Care {
  const { cache, index, hydrator, known, versions, maps, repositories, log, scrubRate } = parts;
  const onWarning = (text: string, error?: unknown) => log.warn(text, { error, repeats: 'scrub' });
  const healer = createHealer({
    cache,
    isWanted: (id) => versions.sources().some(({ map }) => map.has(id)),
    hydrate: (id, options) => hydrator.bring(id, options),
    release: releaseDentries,
    onWarning,
  });

  const sources = async () => {
    const found: StagedSource[] = [...versions.sources()];
    let complete = true;
    for (const { version, root, repository: location } of known.all()) {
      if (found.some((source) => source.version === version && source.repository.location === location)) continue;
      try {
        const map = maps.of(root);
        const repository = map && (await repositories.at(location));
        if (map && repository) found.push({ repository, version, root, map });
        else complete = false;
      } catch (error) {
        onWarning(`version ${version.slice(0, 12)} cannot tell its objects: ${(error as Error).message}`, error);
        complete = false;
      }
    }
    return { sources: found, complete };
  };

  /** A map is not read whole when it is opened: that is done here. */
  const checkMaps = async (signal: AbortSignal) => {
    for (const root of new Set(known.all().map((one) => one.root))) {
      try {
        const map = maps.of(root);
        if (map) await map.check(signal);
        else await versions.renew(root);
      } catch (error) {
        if (!(error instanceof CorruptError)) throw error;
        log.warn(`${error.message}: it is made anew`, { error });
        await versions.renew(root);
      }
    }
  };

  const scrub =
    scrubRate === 0
      ? undefined
      : startScrub({ cache, index, healer, sources, rate: scrubRate, onRound: checkMaps, onWarning });
  return {
    healer,
    scrub,
    sources,
    [Symbol.asyncDispose]: async () => {
      await scrub?.[Symbol.asyncDispose]();
      await healer[Symbol.asyncDispose]();
    },
  };
}
