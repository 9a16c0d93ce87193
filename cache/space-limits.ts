/** An amount of disk space: as such, or as a part of the disk that the cache lies on. */
export type SpaceAmount = { readonly bytes: number } | { readonly percent: number };

export interface SpaceLimits {
  /** What the cache's directory may take; the disk alone limits it where it is not said. */
  readonly limit?: SpaceAmount;
  /** What stays free on the disk, whoever fills it: `DEFAULT_MIN_FREE` if not said. */
  readonly minFree?: SpaceAmount;
}

/**
 * A full file system is slow, and is in the way of everybody else who writes to it. A twentieth keeps small disks usable; on large ones
 * ten gibibytes are enough for that.
 */
const DEFAULT_MIN_FREE = { percent: 5, atMost: 10 * 2 ** 30 };

/** Whoever waits for one file gets a pack with it: room for a few of them is made at once, in bytes. */
const PACKS = 64 * 2 ** 20;

/** What a disk tells of itself, in bytes and in inodes. */
export interface DiskSpace {
  readonly total: number;
  readonly free: number;
  readonly inodes: number;
  readonly freeInodes: number;
}

/** Limits of one disk, in bytes. */
export interface ResolvedLimits {
  readonly limit?: number;
  readonly minFree: number;
  /** Evicting begins when there is less room than `low`, and ends when there is `high`. */
  readonly low: number;
  readonly high: number;
}

export function resolveLimits({ limit, minFree }: SpaceLimits, total: number): ResolvedLimits {
  const bytesOf = (amount: SpaceAmount) =>
    'bytes' in amount ? amount.bytes : Math.floor((total * amount.percent) / 100);
  const most = limit && bytesOf(limit);
  const whole = Math.min(most ?? total, total);
  return {
    ...(most !== undefined && { limit: most }),
    minFree: minFree ? bytesOf(minFree) : Math.min(bytesOf(DEFAULT_MIN_FREE), DEFAULT_MIN_FREE.atMost),
    low: Math.min(whole * 0.02, 16 * 2 ** 30),
    high: Math.max(Math.min(whole * 0.05, 64 * 2 ** 30), Math.min(whole / 8, PACKS)),
  };
}

/** What the cache takes, in bytes. */
export interface SpaceTaken {
  /** In place: objects, partial files, images, workspaces and whatever else its directory has. */
  readonly held: number;
  /** Taken from the room, and not yet in place; a part of it may be written. */
  readonly pending: number;
}

/** How much may still be written; negative where there is too much. */
export function roomFor({ held, pending }: SpaceTaken, disk: DiskSpace, { limit, minFree }: ResolvedLimits): number {
  // A file system that makes inodes as it needs them says that it has none.
  if (disk.inodes > 0 && disk.freeInodes < Math.min(disk.inodes / 100, 10_000)) return -1;
  const byLimit = limit === undefined ? Number.POSITIVE_INFINITY : limit - held;
  return Math.floor(Math.min(disk.free - minFree, byLimit) - pending);
}
