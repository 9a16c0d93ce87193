import type { Digest } from '../dataset/digest.ts';
import type { CacheIndex, IndexedObject } from './index.ts';
import type { KnownVersion } from './known-versions.ts';
import type { StageMap } from './stage-map.ts';

/** A version with what tells its objects. */
export interface MappedVersion {
  readonly known: KnownVersion;
  readonly map: StageMap;
}

/** How much of a version is in the cache. A content that several of its files have counts once. */
export interface VersionUsage {
  readonly dataset: string;
  readonly version: Digest;
  readonly objects: number;
  readonly bytes: number;
  readonly cachedObjects: number;
  readonly cachedBytes: number;
  /** What no other known version has: what its eviction would free. */
  readonly aloneObjects: number;
  readonly aloneBytes: number;
}

export interface CacheUsage {
  readonly objects: number;
  readonly bytes: number;
  /** In order of the versions that were asked about. */
  readonly versions: readonly VersionUsage[];
  /** Objects of no known version. */
  readonly unknownObjects: number;
  readonly unknownBytes: number;
}

/** Counts what is cached, in one pass over the index. */
export async function measureUsage(index: CacheIndex, versions: readonly MappedVersion[]): Promise<CacheUsage> {
  const counts = versions.map(() => ({ cachedObjects: 0, cachedBytes: 0, aloneObjects: 0, aloneBytes: 0 }));
  const total = { objects: 0, bytes: 0, unknownObjects: 0, unknownBytes: 0 };
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
    for (const owner of owners) {
      const count = counts[owner]!;
      count.cachedObjects += 1;
      count.cachedBytes += size;
      if (owners.length > 1) continue;
      count.aloneObjects += 1;
      count.aloneBytes += size;
    }
  }
  return {
    ...total,
    versions: versions.map(({ known: { dataset, version }, map }, at) => ({
      dataset,
      version,
      objects: map.objects,
      bytes: map.objectBytes,
      ...counts[at]!,
    })),
  };
}

/** Every object with the places, in `maps`, of the maps that have it. */
export async function* ownedObjects(
  index: CacheIndex,
  maps: readonly StageMap[],
): AsyncGenerator<IndexedObject & { readonly owners: readonly number[] }> {
  for await (const batch of index.batches()) {
    for (const object of batch) {
      const owners: number[] = [];
      for (let at = 0; at < maps.length; at += 1) if (maps[at]!.has(object.id)) owners.push(at);
      yield { ...object, owners };
    }
  }
}
