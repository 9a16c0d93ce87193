import { statfsSync } from 'node:fs';
import { join } from 'node:path';
import type { Cache } from '../cache/cache.ts';
import type { Address } from '../cache/neighbours/address.ts';
import type { IdentityFiles } from '../cache/neighbours/identity.ts';
import type { Neighbours } from '../cache/neighbours/neighbours.ts';
import type { PeerSource } from '../cache/neighbours/peer-source.ts';
import type { Room } from '../cache/room.ts';
import type { Logger } from './log.ts';

/** What is set about neighbours: the variables LARDER_NEIGHBOUR…, checked. */
export interface NeighbourSettings {
  readonly source: PeerSource;
  /** Undefined: this node asks its neighbours and gives them nothing. */
  readonly listen: Address | undefined;
  /** How the list of nodes calls this one, where its addresses do not tell. */
  readonly self: Address | undefined;
  readonly identity: IdentityFiles | 'plain';
  /** In bytes; undefined is as much as `defaultStoreBytes` says. */
  readonly store: number | undefined;
}

export interface NeighbourParts {
  readonly cache: Cache;
  readonly room?: Room | undefined;
  readonly log: Logger;
}

export async function startNeighbours(
  settings: NeighbourSettings,
  { cache, room, log }: NeighbourParts,
): Promise<Neighbours> {
  const { directory } = cache.layout;
  const { openNeighbours } = await import('../cache/neighbours/neighbours.ts');
  return await openNeighbours({
    ...settings,
    cache: directory,
    store: { directory: join(directory, 'neighbours'), limit: settings.store ?? defaultStoreBytes(directory) },
    room,
    onWarning: (text) => log.warn(text, { repeats: 'neighbours' }),
  });
}

/**
 * A twentieth of the disk, and 16 GiB at most: an owner's part of what all nodes read at about the same time, not of the dataset.
 */
function defaultStoreBytes(directory: string): number {
  const { bsize, blocks } = statfsSync(directory);
  return Math.min(16 * 2 ** 30, Math.floor((bsize * blocks) / 20));
}
