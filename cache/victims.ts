import { setImmediate as breathe } from 'node:timers/promises';
import type { Digest } from '../dataset/digest.ts';
import type { CacheIndex, IndexedObject } from './index.ts';
import type { KnownVersion } from './known-versions.ts';
import type { StageMap } from './stage-map.ts';

/** The versions of a node, as evicting asks for them. */
export interface VersionBook {
  all(): readonly KnownVersion[];
  /** Mounted, or being fetched: nothing of it goes. */
  inUse(version: Digest): boolean;
  /** Which contents the version has; undefined where that cannot be told. */
  mapOf(known: KnownVersion): Promise<StageMap | undefined>;
  /** Nothing that only this version has is in the cache any more: its record and its image may go. */
  forget(known: KnownVersion): Promise<void>;
}

export interface VictimOptions {
  readonly index: CacheIndex;
  readonly book: VersionBook;
  /** Of which versions; all if not said, and then also what no known version has. */
  readonly only?: (known: KnownVersion) => boolean;
  /** Also of versions in use: what goes of them is fetched again by who reads it. */
  readonly mounted?: boolean;
  /** Where earlier evictions came to: to be given again as long as the versions and what is in use are the same. */
  readonly progress?: EvictionProgress;
  /** Called when everything that may go of a version was given and dealt with. */
  readonly onEmptied?: (known: KnownVersion) => Promise<void>;
}

export interface VictimBatch {
  /** Absent: of no known version. */
  readonly of?: KnownVersion;
  readonly objects: readonly IndexedObject[];
}

/** A place in the walks that look for victims. */
export interface EvictionProgress {
  /** The last object of the whole cache that was looked at for having no known version. */
  unknown?: Digest;
  /** When a walk over all objects was last at its end, by `performance.now()`. */
  unknownSwept?: number;
  /** The walk ended because the versions, or what is in use, had changed. */
  interrupted?: boolean;
  /** The last prefix of each version. */
  readonly versions: Map<Digest, string>;
}

export function newProgress(): EvictionProgress {
  return { versions: new Map() };
}

/** Objects looked at in one turn of the event loop. */
const SLICE = 256;

/** How long after a whole walk nothing is expected to have lost its last version, in milliseconds. */
const SWEPT_FOR = 600_000;

/**
 * What may go, in the order in which it goes. Objects of versions in use and of pinned versions stay. Of the others, those that no
 * known version has go first, then those of the version that was staged longest ago; an object of several goes with the last of them.
 *
 * It is found by walking a version's contents, or the cache's objects where those are fewer, and no further than whoever takes the
 * batches goes; memory holds one batch. It ends early when a version comes into use, or a new one is there.
 */
export async function* victims(options: VictimOptions): AsyncGenerator<VictimBatch> {
  const { index, book, only, mounted = false, progress = newProgress(), onEmptied } = options;
  const known = book.all();
  const ids = new Set(known.map(({ version }) => version));
  const stays = ({ version }: KnownVersion) =>
    book.all().some((one) => one.version === version && one.pinned) || (!mounted && book.inUse(version));
  const maps = new Map<KnownVersion, StageMap>();
  progress.interrupted = false;
  for (const one of known) {
    const map = await book.mapOf(one);
    if (map) maps.set(one, map);
    // What must stay cannot be told from the rest.
    else if (stays(one)) return;
  }
  const going = new Set<KnownVersion>();
  const changed = () => {
    progress.interrupted = book.all().some(({ version }) => !ids.has(version)) || going.values().some(stays);
    return progress.interrupted;
  };

  async function* ofNoVersion(): AsyncGenerator<VictimBatch> {
    const all = [...maps.values()];
    for await (const batch of index.batches({ after: progress.unknown, size: SLICE })) {
      if (changed()) return;
      const objects = batch.filter(({ id }) => !all.some((map) => map.has(id)));
      if (objects.length > 0) yield { objects };
      progress.unknown = batch.at(-1)!.id;
    }
    progress.unknown = undefined;
    progress.unknownSwept = performance.now();
  }
  const swept = () => progress.unknownSwept !== undefined && performance.now() - progress.unknownSwept < SWEPT_FOR;

  if (!only && progress.unknownSwept === undefined) yield* ofNoVersion();
  const inOrder = [...maps.keys()]
    .filter((one) => !stays(one) && only?.(one) !== false)
    .sort((a, b) => a.lastStaged - b.lastStaged);
  for (const one of inOrder) {
    going.add(one);
    const keepers = [...maps].filter(([other]) => !going.has(other)).map(([, map]) => map);
    for await (const batch of cachedOf(index, maps.get(one)!, progress.versions.get(one.version))) {
      if (changed()) return;
      const objects = batch.objects.filter(({ id }) => !keepers.some((map) => map.has(id)));
      if (objects.length > 0) yield { of: one, objects };
      progress.versions.set(one.version, batch.last);
    }
    if (changed()) return;
    progress.versions.delete(one.version);
    await onEmptied?.(one);
  }
  // What came for a version that was then given up has no other by now.
  if (!only && !swept()) yield* ofNoVersion();
}

interface CachedBatch {
  readonly objects: readonly IndexedObject[];
  /** The prefix of the last content that was looked at. */
  readonly last: string;
}

/** The cached objects of a version in order of their ids, behind a prefix where one is given. */
async function* cachedOf(index: CacheIndex, map: StageMap, after?: string): AsyncGenerator<CachedBatch> {
  if (map.size > index.totals().objects) {
    const start = after === undefined ? undefined : (after.padEnd(64, 'f') as Digest);
    for await (const batch of index.batches({ after: start, size: SLICE })) {
      yield { objects: batch.filter(({ id }) => map.has(id)), last: batch.at(-1)!.id.slice(0, 16) };
    }
    return;
  }
  let objects: IndexedObject[] = [];
  let looked = 0;
  let last = '';
  for (const prefix of map.prefixes()) {
    if (after !== undefined && prefix <= after) continue;
    objects.push(...index.startingWith(prefix));
    last = prefix;
    looked += 1;
    if (looked < SLICE) continue;
    yield { objects, last };
    objects = [];
    looked = 0;
    await breathe();
  }
  if (looked > 0) yield { objects, last };
}
