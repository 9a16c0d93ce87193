import { UnavailableError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import type { Holder } from '../dataset/volume-terms.ts';
import type { Asks } from './asks.ts';
import type { NodeObserver } from './nodes.ts';
import type { Volume } from './volume.ts';
import { readVolume } from './volume-store.ts';

/** How often a node is asked that does not have the workspace any more. */
const ATTEMPTS = 8;

/** What snapshots are made with. */
export interface SnapshotContext {
  readonly asks: Asks;
  readonly nodes: Pick<NodeObserver, 'look'>;
  readonly signal?: AbortSignal;
}

/** The node that a workspace's latest changes are on, if it gives signs of life. */
export async function liveHolder(volume: Volume, nodes: Pick<NodeObserver, 'look'>): Promise<Holder | undefined> {
  const { holder } = volume;
  return holder !== undefined && (await nodes.look(holder)) > 0 ? holder : undefined;
}

/**
 * Saves a workspace that a live node holds, so that its record has what was written up to now: before it is cloned.
 * @returns the record as it is afterwards
 * Errors: NotFoundError; UnavailableError where the node does not answer in time.
 */
export async function saveFirst(repository: Repository, id: string, context: SnapshotContext): Promise<Volume> {
  for (let attempt = 1; ; attempt++) {
    const volume = await readVolume(repository, id);
    const holder = await liveHolder(volume, context.nodes);
    if (holder === undefined) return volume;
    const answer = await context.asks.ask(holder.node, { kind: 'save-now', volume: id }, context);
    if (answer.kind === 'saved') return await readVolume(repository, id);
    if (attempt >= ATTEMPTS)
      throw new UnavailableError(`volume ${JSON.stringify(id)} goes from node to node all the time: try again`, {
        facts: { volume: id },
      });
  }
}
