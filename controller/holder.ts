import { setTimeout as sleep } from 'node:timers/promises';
import type { Answer, Ask } from '../dataset/asks.ts';
import { UnavailableError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import type { Holder } from '../dataset/volume-terms.ts';
import type { Asks } from './asks.ts';
import { type NodeObserver, WATCH_INTERVAL } from './nodes.ts';
import type { Volume } from './volume.ts';
import { readVolume } from './volume-store.ts';

/** How often a node is asked that does not have the workspace any more. */
const ATTEMPTS = 8;

/** What snapshots are made with. */
export interface SnapshotContext {
  readonly asks: Asks;
  readonly nodes: Pick<NodeObserver, 'look'>;
  readonly signal?: AbortSignal;
  /** Told, each time, of a workspace that is taken as its record has it, since the node that holds it is given up. */
  readonly onGivenUp?: (volume: Volume, holder: Holder) => void;
}

/** The node that a workspace's latest changes are on, if it gives signs of life. */
export async function liveHolder(
  volume: Volume,
  { nodes, onGivenUp }: Pick<SnapshotContext, 'nodes' | 'onGivenUp'>,
): Promise<Holder | undefined> {
  const { holder } = volume;
  if (holder === undefined || (await nodes.look(holder)) > 0) return holder;
  onGivenUp?.(volume, holder);
  return undefined;
}

/**
 * Asks the node that holds a workspace, and watches it meanwhile: who has not seen it before cannot tell at first that it is lost.
 * @returns undefined where it is given up before it answers
 * Errors: as of `Asks.ask`.
 */
export async function askHolder(
  { asks, nodes }: Pick<SnapshotContext, 'asks' | 'nodes'>,
  holder: Holder,
  ask: Ask,
  signal?: AbortSignal,
): Promise<Answer | undefined> {
  const givenUp = new GivenUp();
  const lost = new AbortController();
  const answered = new AbortController();
  const watch = async () => {
    for (;;) {
      await sleep(WATCH_INTERVAL, undefined, { signal: answered.signal });
      try {
        if ((await nodes.look(holder)) === 0) return lost.abort(givenUp);
      } catch (error) {
        // That the repository is away is no sign of anything.
        if (!(error instanceof UnavailableError)) return lost.abort(error);
      }
    }
  };
  // Ended by the answer.
  watch().catch(() => undefined);
  try {
    return await asks.ask(holder.node, ask, {
      signal: signal === undefined ? lost.signal : AbortSignal.any([lost.signal, signal]),
    });
  } catch (error) {
    if (error !== givenUp) throw error;
    return undefined;
  } finally {
    answered.abort();
  }
}

class GivenUp extends Error {}

/**
 * Saves a workspace that a live node holds, so that its record has what was written up to now: before it is cloned.
 * @returns the record as it is afterwards
 * Errors: NotFoundError; UnavailableError where the node does not answer in time.
 */
export async function saveFirst(repository: Repository, id: string, context: SnapshotContext): Promise<Volume> {
  for (let attempt = 1; ; attempt++) {
    const volume = await readVolume(repository, id);
    const holder = await liveHolder(volume, context);
    if (holder === undefined) return volume;
    const answer = await askHolder(context, holder, { kind: 'save-now', volume: id }, context.signal);
    if (answer?.kind === 'saved') return await readVolume(repository, id);
    if (attempt >= ATTEMPTS)
      throw new UnavailableError(`volume ${JSON.stringify(id)} goes from node to node all the time: try again`, {
        facts: { volume: id },
      });
  }
}
