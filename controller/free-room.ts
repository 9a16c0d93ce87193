import { WORKSPACE_MAXIMUM, WORKSPACE_MINIMUM } from './capacity.ts';
import type { NodeObserver } from './nodes.ts';
import type { VolumeKind } from './volume.ts';

/** What new volumes may have, in bytes. */
export interface FreeRoom {
  readonly available: number;
  readonly minimum: number;
  readonly maximum: number;
}

/**
 * The room that there is for a new volume. A workspace's changes go to its node's disk: the largest room that a live node tells of, or what
 * `node` tells of; nothing where none tells anything. A pinned volume needs no room that could run out.
 */
export async function freeRoom(
  nodes: Pick<NodeObserver, 'alive'>,
  options: { readonly kind?: VolumeKind; readonly node?: string } = {},
): Promise<FreeRoom> {
  const { kind = 'workspace', node } = options;
  if (kind === 'pinned') return { available: WORKSPACE_MAXIMUM, minimum: 0, maximum: WORKSPACE_MAXIMUM };
  const all = await nodes.alive();
  const rooms = all.filter((each) => node === undefined || each.node === node).map(({ freeBytes = 0 }) => freeBytes);
  return { available: Math.max(0, ...rooms), minimum: WORKSPACE_MINIMUM, maximum: WORKSPACE_MAXIMUM };
}
