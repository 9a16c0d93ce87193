import type { Digest } from '../dataset/digest.ts';
import type { CacheIndex, IndexedObject } from './index.ts';
import type { KnownVersion } from './known-versions.ts';
import type { StageMap } from './stage-map.ts';

/** A version with what tells its objects; without a map, it counts as having none. */
export interface MappedVersion {
  readonly known: KnownVersion;
  readonly map?: StageMap | undefined;
}

/** What of something is in the cache: all of it, and what nothing else has, which is what its eviction would free. */
export interface CachedShare {
  readonly cachedObjects: number;
  readonly cachedBytes: number;
  readonly aloneObjects: number;
  readonly aloneBytes: number;
}

/** How much of a version is in the cache. A content that several of its files have counts once. */
export interface VersionUsage extends CachedShare {
  readonly dataset: string;
  readonly version: Digest;
  readonly objects: number;
  readonly bytes: number;
}

/** How much of a dataset's versions together is in the cache; what several of them have counts once. */
export interface DatasetUsage extends CachedShare {
  /** The repository's location. */
  readonly repository: string;
  readonly dataset: string;
  readonly versions: number;
}

export interface CacheUsage {
  readonly objects: number;
  readonly bytes: number;
  /** In order of the versions that were asked about. */
  readonly versions: readonly VersionUsage[];
  /** In order of their first versions. */
  readonly datasets: readonly DatasetUsage[];
  /** Objects of no known version. */
  readonly unknownObjects: number;
  readonly unknownBytes: number;
}

const noShare = () => ({ cachedObjects: 0, cachedBytes: 0, aloneObjects: 0, aloneBytes: 0 });

/** Counts what is cached, in one pass over the index. */
export async function measureUsage(index: CacheIndex, versions: readonly MappedVersion[]): Promise<CacheUsage> {
  const shares = versions.map(noShare);
  const datasets: { repository: string; dataset: string; versions: number; share: ReturnType<typeof noShare> }[] = [];
  const datasetOf = versions.map(({ known: { repository, dataset } }) => {
    let at = datasets.findIndex((one) => one.repository === repository && one.dataset === dataset);
    if (at < 0) at = datasets.push({ repository, dataset, versions: 0, share: noShare() }) - 1;
    datasets[at]!.versions += 1;
    return at;
  });
  const total = { objects: 0, bytes: 0, unknownObjects: 0, unknownBytes: 0 };
  const count = (share: ReturnType<typeof noShare>, size: number, alone: boolean) => {
    share.cachedObjects += 1;
    share.cachedBytes += size;
    if (!alone) return;
    share.aloneObjects += 1;
    share.aloneBytes += size;
  };
  for await (const { size, owners } of ownedObjects(
    index,
    versions.map(({ map }) => map),
  )) {
    total.objects += 1;
    total.bytes += size;
    if (owners.length === 0) {
      total.unknownObjects += 1;
      total.unknownBytes += size;
    }
    for (const owner of owners) count(shares[owner]!, size, owners.length === 1);
    const ofDatasets = new Set(owners.map((owner) => datasetOf[owner]!));
    for (const at of ofDatasets) count(datasets[at]!.share, size, ofDatasets.size === 1);
  }
  return {
    ...total,
    versions: versions.map(({ known: { dataset, version }, map }, at) => ({
      dataset,
      version,
      objects: map?.objects ?? 0,
      bytes: map?.objectBytes ?? 0,
      ...shares[at]!,
    })),
    datasets: datasets.map(({ share, ...dataset }) => ({ ...dataset, ...share })),
  };
}

/** Every object with the places, in `maps`, of the maps that have it. */
export async function* ownedObjects(
  index: CacheIndex,
  maps: readonly (StageMap | undefined)[],
): AsyncGenerator<IndexedObject & { readonly owners: readonly number[] }> {
  for await (const batch of index.batches()) {
    for (const object of batch) {
      const owners: number[] = [];
      for (let at = 0; at < maps.length; at += 1) if (maps[at]?.has(object.id)) owners.push(at);
      yield { ...object, owners };
    }
  }
}
