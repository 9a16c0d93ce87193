import type { Cache } from '../cache/cache.ts';
import { type EvictionOptions, evict, planEviction } from '../cache/evict.ts';
import type { CacheIndex } from '../cache/index.ts';
import type { KnownVersion, KnownVersions } from '../cache/known-versions.ts';
import type { StagedSource } from '../cache/segment-reader.ts';
import { type MappedVersion, measureUsage } from '../cache/usage.ts';
import { verifyCache } from '../cache/verify.ts';
import { resolveName } from '../dataset/refs.ts';
import { readVersion } from '../dataset/version.ts';
import type { NamedVersion } from './protocol.ts';
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
  readonly care: Pick<Care, 'healer' | 'sources'>;
}

type CacheMethod = 'cache-show' | 'cache-pin' | 'cache-unpin' | 'cache-evict' | 'cache-verify';

/** What the command line asks of the daemon about its cache. */
export function createCacheCalls(parts: CacheCallParts): Pick<Handlers, CacheMethod> {
  const { cache, index, known, versions, repositories, care } = parts;

  const resolve = async ({ repository: location, name }: NamedVersion) => {
    const repository = await repositories.at(location);
    const { dataset, version } = await resolveName(repository, name);
    return { repository, dataset, version };
  };

  const sourceOf = async ({ repository: location, version, root }: KnownVersion): Promise<StagedSource> => {
    const repository = await repositories.at(location);
    return await versions.withSource({ repository, version, root }, async (source) => source);
  };

  const mapped = (): Promise<MappedVersion[]> =>
    Promise.all(known.all().map(async (one) => ({ known: one, map: (await sourceOf(one)).map })));

  const evictionOptions = async (): Promise<EvictionOptions> => ({
    index,
    versions: await mapped(),
    isStaged: versions.isStaged,
  });

  return {
    'cache-show': async () => {
      await index.settled;
      const all = await mapped();
      const usage = await measureUsage(index, all);
      return {
        directory: cache.layout.directory,
        objects: usage.objects,
        bytes: usage.bytes,
        versions: usage.versions.map((one, at) => ({
          dataset: one.dataset,
          version: one.version,
          staged: versions.isStaged(one.version),
          pinned: all[at]!.known.pinned,
          files: one.objects,
          cachedFiles: one.cachedObjects,
          bytes: one.bytes,
          cachedBytes: one.cachedBytes,
          aloneBytes: one.aloneBytes,
        })),
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

    'cache-evict': async ({ bytes, dryRun = false }) => {
      const options = await evictionOptions();
      const plan = await planEviction({ ...options, bytes });
      return dryRun ? { objects: plan.objects, bytes: plan.bytes } : await evict(cache, plan, options);
    },

    'cache-verify': async (_request, { signal, onProgress }) => {
      const { sources, complete } = await care.sources();
      const { objects, bytes, damaged, unknown } = await verifyCache({
        cache,
        index,
        sources,
        complete,
        onDamaged: (id) => care.healer.found(id, 'verify'),
        signal,
        onProgress: (done) => onProgress({ phase: 'verifying', files: done.objects, bytes: done.bytes }),
      });
      await care.healer.settled();
      return { objects, bytes, damaged, unknown };
    },
  };
}
