import type { Cache } from '../cache/cache.ts';
import type { Capacity, EvictRequest } from '../cache/capacity.ts';
import type { CacheIndex } from '../cache/index.ts';
import type { KnownVersion, KnownVersions } from '../cache/known-versions.ts';
import { measureUsage, type CachedShare as Share } from '../cache/usage.ts';
import { verifyCache } from '../cache/verify.ts';
import type { VersionBook } from '../cache/victims.ts';
import { NotFoundError } from '../dataset/errors.ts';
import { resolveName } from '../dataset/refs.ts';
import { readVersion } from '../dataset/version.ts';
import type { CachedShare, CacheEvictRequest, CacheSpace, NamedVersion } from './protocol.ts';
import type { Repositories } from './repositories.ts';
import type { Care } from './scrub.ts';
import type { Handlers } from './server.ts';
import type { StagedVersions } from './staging.ts';

export interface CacheCallParts {
  readonly cache: Cache;
  readonly index: CacheIndex;
  readonly known: KnownVersions;
  readonly versions: StagedVersions;
  readonly repositories: Repositories;
  readonly book: VersionBook;
  readonly capacity: Capacity;
  readonly care: Pick<Care, 'healer' | 'sources'>;
}

type CacheMethod = 'cache-show' | 'cache-pin' | 'cache-unpin' | 'cache-evict' | 'cache-limit' | 'cache-verify';

/** What the command line asks of the daemon about its cache. */
export function createCacheCalls(parts: CacheCallParts): Pick<Handlers, CacheMethod> {
  const { cache, index, known, versions, repositories, book, capacity, care } = parts;

  const resolve = async ({ repository: location, name }: NamedVersion) => {
    const repository = await repositories.at(location);
    const { dataset, version } = await resolveName(repository, name);
    return { repository, dataset, version };
  };

  const space = (): CacheSpace => {
    const { limit, minFree, held, room, diskBytes, diskFree } = capacity.stats();
    return { ...(limit !== undefined && { limit }), minFree, held, room, diskBytes, diskFree };
  };

  const selection = async (of: CacheEvictRequest['of']): Promise<EvictRequest['only']> => {
    if (of === undefined) return undefined;
    const isWanted = await ('dataset' in of
      ? (one: KnownVersion) => one.repository === of.repository && one.dataset === of.dataset
      : resolve(of).then(
          ({ version }) =>
            (one: KnownVersion) =>
              one.version === version,
        ));
    if (known.all().some(isWanted)) return isWanted;
    const name = 'dataset' in of ? of.dataset : of.name;
    throw new NotFoundError(`nothing of ${name} is in this cache: 'larder cache show' lists what is`, {
      facts: { name },
    });
  };

  return {
    'cache-show': async () => {
      await index.settled;
      const all = await Promise.all(known.all().map(async (one) => ({ known: one, map: await book.mapOf(one) })));
      const { objects, bytes, unknownObjects, unknownBytes, datasets, ...usage } = await measureUsage(index, all);
      await capacity.refresh();
      return {
        directory: cache.layout.directory,
        ...space(),
        objects,
        bytes,
        unknownObjects,
        unknownBytes,
        datasets: datasets.map(({ repository, dataset, versions: count, ...share }) => ({
          repository,
          dataset,
          versions: count,
          ...shareOf(share),
        })),
        versions: usage.versions.map((one, at) => {
          const { repository, pinned, lastStaged } = all[at]!.known;
          return {
            repository,
            dataset: one.dataset,
            version: one.version,
            staged: versions.isStaged(one.version),
            pinned,
            ...(lastStaged > 0 && { lastStaged: new Date(lastStaged).toISOString() }),
            files: one.objects,
            bytes: one.bytes,
            ...shareOf(one),
          };
        }),
      };
    },

    'cache-pin': async (request) => {
      const { repository, dataset, version } = await resolve(request);
      const { root } = await readVersion(repository, version);
      const one = { version, root, repository: repository.location, dataset };
      // Its map tells what a pin keeps: made now, while the repository is at hand.
      await versions.withSource({ repository, version, root }, async () => {});
      await known.pin(one);
      return { dataset, version, pinned: true };
    },

    'cache-unpin': async (request) => {
      const { dataset, version } = await resolve(request);
      await known.unpin(version);
      return { dataset, version, pinned: false };
    },

    'cache-evict': async ({ bytes, of, mounted = false, dryRun = false }) => {
      const only = await selection(of);
      const request: EvictRequest = { bytes, ...(only && { only }), mounted };
      if (!dryRun) return await capacity.evict(request);
      const plan = await capacity.plan(request);
      return { objects: plan.objects, bytes: plan.bytes };
    },

    'cache-limit': async ({ limit, minFree }) => {
      await capacity.setLimits({
        ...capacity.limits,
        ...(limit !== undefined && { limit: limit ?? undefined }),
        ...(minFree && { minFree }),
      });
      return space();
    },

    'cache-verify': async (_request, { signal, onProgress }) => {
      const { sources, complete } = await care.sources();
      const { objects, bytes, damaged, unknown } = await verifyCache({
        cache,
        index,
        sources,
        complete,
        latest: care.sources,
        onDamaged: (id) => care.healer.found(id, 'verify'),
        signal,
        onProgress: (done) => onProgress({ phase: 'verifying', files: done.objects, bytes: done.bytes }),
      });
      await care.healer.settled();
      return { objects, bytes, damaged, unknown };
    },
  };
}

function shareOf({ cachedObjects, cachedBytes, aloneBytes }: Share): CachedShare {
  return { cachedFiles: cachedObjects, cachedBytes, aloneBytes, sharedBytes: cachedBytes - aloneBytes };
}
