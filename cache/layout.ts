import { chmodSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Digest } from '../dataset/digest.ts';

/** Where things lie in a cache's directory. Made of strings only, so that it can be sent to a worker thread. */
export interface Layout {
  readonly directory: string;
  /** Whole, verified objects, `<2 hex>/<content id>`: a data-only layer of every mount. */
  readonly objects: string;
  /** Second names of objects that an open waited for: another data-only layer, since overlayfs refuses one directory twice. */
  readonly late: string;
  /** Temporary names of what is being written. Nothing in it outlives the daemon that wrote it. */
  readonly incoming: string;
  /** Names of objects that may not have reached the disk yet (docs/decisions/cache-durability.md). */
  readonly journal: string;
  /** Objects that verifying found damaged, kept for a look at them. */
  readonly quarantine: string;
  /** Named by a manifest's root: `<root>.erofs`, `<root>.<view>.erofs` for each view of it, and beside them `<root>.map`. */
  readonly images: string;
  /** One small record for each version that this node knows. */
  readonly versions: string;
  /** Upper layers of writable volumes. */
  readonly workspaces: string;
  /** Held with flock by the daemon that owns the cache. */
  readonly lock: string;
  /** May be deleted at any time. */
  readonly index: string;
}

export function layoutOf(directory: string): Layout {
  return {
    directory,
    objects: join(directory, 'objects'),
    late: join(directory, 'late'),
    incoming: join(directory, 'incoming'),
    journal: join(directory, 'journal'),
    quarantine: join(directory, 'quarantine'),
    images: join(directory, 'images'),
    versions: join(directory, 'versions'),
    workspaces: join(directory, 'workspaces'),
    lock: join(directory, 'lock'),
    index: join(directory, 'index.db'),
  };
}

/**
 * Makes every folder that is missing, the 256 below objects/ and late/ among them. Nobody but the daemon's user gets into the directory,
 * also where it was there before: what one pod may read, another must not find there.
 */
export function makeLayout(layout: Layout): void {
  mkdirSync(layout.directory, { recursive: true, mode: 0o700 });
  chmodSync(layout.directory, 0o700);
  const { objects, late, incoming, journal, quarantine, images, versions, workspaces } = layout;
  for (const folder of [objects, late, incoming, journal, quarantine, images, versions, workspaces]) {
    mkdirSync(folder, { recursive: true, mode: 0o755 });
  }
  for (const folder of [objects, late]) {
    const present = new Set(readdirSync(folder));
    for (const fan of fans()) if (!present.has(fan)) mkdirSync(`${folder}/${fan}`, { mode: 0o755 });
  }
}

/** `00` to `ff`. */
export function fans(): string[] {
  return Array.from({ length: 256 }, (_, value) => value.toString(16).padStart(2, '0'));
}

export function objectPath(layout: Layout, id: Digest): string {
  return `${layout.objects}/${id.slice(0, 2)}/${id}`;
}

export function latePath(layout: Layout, id: Digest): string {
  return `${layout.late}/${id.slice(0, 2)}/${id}`;
}
