import { InvalidError } from '../dataset/errors.ts';

/** What a volume's size may be, in bytes. */
export interface CapacityRange {
  /** At least this. */
  readonly required?: number;
  /** At most this. */
  readonly limit?: number;
}

/** The range leaves no size that the volume can have. */
export class CapacityError extends InvalidError {}

/** mkfs.xfs makes nothing smaller: 300 MiB. */
export const WORKSPACE_MINIMUM = 300 * 2 ** 20;

/** The largest file of ext4, where a workspace's image may lie: 16 TiB less one block. */
export const WORKSPACE_MAXIMUM = 2 ** 44 - 4096;

/** A workspace's room for changes where nobody says how much: 1 GiB. */
export const WORKSPACE_DEFAULT = 2 ** 30;

/**
 * The room for changes of a workspace, in bytes: what is required, or else `usual`, within the range.
 * Errors: CapacityError.
 */
export function workspaceCapacity(range: CapacityRange, usual = WORKSPACE_DEFAULT): number {
  checkRange(range);
  const { required, limit = Number.POSITIVE_INFINITY } = range;
  if (limit < WORKSPACE_MINIMUM)
    throw new CapacityError(
      `a workspace takes at least ${WORKSPACE_MINIMUM} bytes (300 MiB), and the limit is ${limit}: raise the limit`,
    );
  if (required === undefined) return Math.min(usual, limit);
  if (required > WORKSPACE_MAXIMUM)
    throw new CapacityError(
      `a workspace takes at most ${WORKSPACE_MAXIMUM} bytes (16 TiB), and ${required} are required: ask for less`,
    );
  return Math.max(required, WORKSPACE_MINIMUM);
}

/**
 * The size to report of a pinned volume, in bytes: its version's. A claim must ask for some size, so asking for more than the
 * version has is no fault, and the volume is as large as asked, to those who compare.
 * Errors: CapacityError where the version is larger than the limit.
 */
export function pinnedCapacity(versionBytes: number, range: CapacityRange): number {
  checkRange(range);
  const { required = 0, limit } = range;
  if (limit !== undefined && versionBytes > limit)
    throw new CapacityError(`the version has ${versionBytes} bytes, and the limit is ${limit}: raise the limit`);
  return Math.max(versionBytes, required);
}

/** Whether a volume of `capacity` bytes is one that the range asks for. */
export function fitsRange(
  capacity: number,
  { required = 0, limit = Number.POSITIVE_INFINITY }: CapacityRange,
): boolean {
  return required <= capacity && capacity <= limit;
}

function checkRange({ required, limit }: CapacityRange): void {
  if (required !== undefined && limit !== undefined && required > limit)
    throw new CapacityError(`${required} bytes are required, and the limit is ${limit}: raise the limit`);
}
