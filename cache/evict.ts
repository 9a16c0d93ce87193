import { statfsSync } from 'node:fs';
import type { Digest } from '../dataset/digest.ts';
import type { Cache } from './cache.ts';
import type { CacheIndex } from './index.ts';
import type { KnownVersion } from './known-versions.ts';
import { type MappedVersion, ownedObjects } from './usage.ts';

/**
 * What an eviction would remove, from whom. Objects of staged and of pinned versions stay. Of the others, those that no known
 * version has go first, then those of the version that was staged longest ago; an object of several goes with the last of them.
 */
export interface EvictionPlan {
  readonly steps: readonly EvictionStep[];
  readonly objects: number;
  readonly bytes: number;
}

export interface EvictionStep {
  /** Absent: objects of no known version. */
  readonly of?: KnownVersion;
  /** How many go, and their sizes together in bytes. */
  readonly objects: number;
  readonly bytes: number;
  /** False for the last step where a part of it is enough. */
  readonly all: boolean;
}

export interface EvictionOptions {
  readonly index: CacheIndex;
  /** Every known version, with its map. */
  readonly versions: readonly MappedVersion[];
  /** Whether a version is staged now: asked again when the plan is carried out. */
  readonly isStaged: (version: Digest) => boolean;
}

/** @param options.bytes how much is wanted; everything that may go where it is not said */
export async function planEviction(options: EvictionOptions & { readonly bytes?: number }): Promise<EvictionPlan> {
  const { bytes: wanted = Number.POSITIVE_INFINITY } = options;
  const found = new Map<KnownVersion | undefined, { objects: number; bytes: number; sizes: number[] }>();
  for await (const { size, of } of evictable(options)) {
    const step = found.get(of) ?? { objects: 0, bytes: 0, sizes: [] };
    found.set(of, step);
    step.objects += 1;
    step.bytes += size;
    // Enough to cut the step where it suffices.
    if (step.bytes - size < wanted) step.sizes.push(size);
  }
  const steps: EvictionStep[] = [];
  let bytes = 0;
  let objects = 0;
  const inOrder = [...found].sort(([a], [b]) => (a?.lastStaged ?? -1) - (b?.lastStaged ?? -1));
  for (const [of, step] of inOrder) {
    if (bytes >= wanted) break;
    let taken = { objects: step.objects, bytes: step.bytes };
    if (bytes + step.bytes > wanted) {
      taken = { objects: 0, bytes: 0 };
      for (const size of step.sizes) {
        if (bytes + taken.bytes >= wanted) break;
        taken = { objects: taken.objects + 1, bytes: taken.bytes + size };
      }
    }
    steps.push({ of, ...taken, all: taken.objects === step.objects });
    bytes += taken.bytes;
    objects += taken.objects;
  }
  return { steps, objects, bytes };
}

export interface EvictionResult {
  readonly objects: number;
  readonly bytes: number;
  /**
   * By how much the disk's free space grew, in bytes. Less than `bytes` where something still has a removed object open, or a
   * mount its dentry; more or less where others write to that disk.
   */
  readonly freed: number;
}

/** Removes what the plan says, but for what was staged or pinned since. */
export async function evict(cache: Cache, plan: EvictionPlan, options: EvictionOptions): Promise<EvictionResult> {
  const left = new Map(plan.steps.map((step) => [step.of?.version, step.objects]));
  const before = freeBytes(cache);
  let objects = 0;
  let bytes = 0;
  for await (const { id, size, of } of evictable(options)) {
    const quota = left.get(of?.version) ?? 0;
    if (quota === 0) continue;
    left.set(of?.version, quota - 1);
    cache.remove(id);
    objects += 1;
    bytes += size;
  }
  return { objects, bytes, freed: freeBytes(cache) - before };
}

/** Every object that may go, with the version that was staged last among those that have it. */
async function* evictable({ index, versions, isStaged }: EvictionOptions) {
  await index.settled;
  const maps = versions.map(({ map }) => map);
  for await (const { id, size, owners } of ownedObjects(index, maps)) {
    let of: KnownVersion | undefined;
    let stays = false;
    for (const owner of owners) {
      const { known } = versions[owner]!;
      stays ||= known.pinned || isStaged(known.version);
      if (!of || known.lastStaged > of.lastStaged) of = known;
    }
    if (!stays) yield { id, size, of };
  }
}

function freeBytes(cache: Cache): number {
  const { bavail, bsize } = statfsSync(cache.layout.directory);
  return bavail * bsize;
}
