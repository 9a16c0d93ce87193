import { setTimeout as sleep } from 'node:timers/promises';
import { readObject } from '../dataset/bucket/read-object.ts';
import { NotFoundError } from '../dataset/errors.ts';
import { mapAhead } from '../dataset/map-ahead.ts';
import type { Repository } from '../dataset/repository.ts';
import type { NodeIdentity } from '../dataset/volume-terms.ts';
import {
  decodeHeartbeat,
  HEARTBEAT_LIMIT,
  type HeartbeatRecord,
  heartbeatKey,
  NODES,
  nodeOfKey,
} from './heartbeat-record.ts';

/** How long nothing must be heard of a node until it is given up, in milliseconds. */
export const GIVEN_UP_AFTER = 40_000;
/** How long what was heard of a node holds good, in milliseconds: many questions are one request. */
const FRESH = 1_000;
/**
 * What one look adds to the time in which nothing was heard, at most, in milliseconds. Who looks seldom must look more than once: between
 * two looks the repository itself may have been away, for the node too.
 */
const LONGEST_STEP = 20_000;
const NODES_AHEAD = 16;
/** Between two looks of those who watch a node, in milliseconds: more than what counts as fresh. */
export const WATCH_INTERVAL = 1_100;

/** Tells whether nodes are alive, by their heartbeats and this process's own monotonic clock: no clock of another machine is trusted. */
export interface NodeObserver {
  /**
   * How long the node is still taken for alive, in milliseconds, if nothing more is heard of it; 0: it is gone. Gone is who has no heartbeat
   * (it stopped, holding nothing), whose node was installed anew since, and who gave no sign for GIVEN_UP_AFTER while this was watched.
   * Errors: UnavailableError where the repository cannot be asked, which is no sign of anything.
   */
  look(node: NodeIdentity): Promise<number>;
  /** All nodes that are taken for alive, with what they tell of themselves. */
  alive(): Promise<HeartbeatRecord[]>;
}

export interface ObserverOptions {
  readonly repository: Pick<Repository, 'bucket'>;
  /** In milliseconds; GIVEN_UP_AFTER if not said. */
  readonly window?: number;
  /** Monotonic, in milliseconds; for tests. */
  readonly clock?: () => number;
}

/** What was heard of a node. */
interface Heard {
  readonly record: HeartbeatRecord;
  readonly etag: string;
  /** When the look began and when it ended that found it so last. */
  readonly began: number;
  readonly ended: number;
  /** How long it has been seen without a change, in milliseconds. */
  readonly unchanged: number;
}

export function createNodeObserver(options: ObserverOptions): NodeObserver {
  const { repository, window = GIVEN_UP_AFTER, clock = () => performance.now() } = options;
  const heard = new Map<string, Heard>();
  const asking = new Map<string, { readonly began: number; readonly answer: Promise<Heard | undefined> }>();

  const ask = async (node: string, began: number): Promise<Heard | undefined> => {
    const key = heartbeatKey(node);
    try {
      const { bytes, etag } = await readObject(repository.bucket, key, HEARTBEAT_LIMIT);
      const record = decodeHeartbeat(bytes, key);
      const before = heard.get(node);
      const ended = clock();
      // From the end of one look to the beginning of the next it was surely the same.
      const unchanged =
        before?.etag === etag ? before.unchanged + Math.min(Math.max(began - before.ended, 0), LONGEST_STEP) : 0;
      const now = { record, etag, began, ended, unchanged };
      heard.set(node, now);
      return now;
    } catch (error) {
      // What comes after an interruption is counted anew: the node may not have been able to write either.
      heard.delete(node);
      if (error instanceof NotFoundError) return undefined;
      throw error;
    }
  };
  /** What a look tells that began at `since` or later. */
  const askSince = async (node: string, since: number): Promise<Heard | undefined> => {
    const under = asking.get(node);
    if (under !== undefined && under.began >= since) return await under.answer;
    // One look at a time: they are counted in order.
    await under?.answer.catch(() => undefined);
    const other = asking.get(node);
    if (other !== undefined) return await askSince(node, since);
    const began = clock();
    const answer = ask(node, began).finally(() => asking.delete(node));
    asking.set(node, { began, answer });
    return await answer;
  };
  const left = (found: Heard | undefined, instance?: string): number => {
    if (found === undefined || (instance !== undefined && found.record.instance !== instance)) return 0;
    return Math.max(window - found.unchanged, 0);
  };

  return {
    async look({ node, instance }) {
      const now = clock();
      const known = heard.get(node);
      if (known !== undefined && now - known.began < FRESH && left(known, instance) > 0) return left(known, instance);
      // That a node is gone is told only by a look that began after the question: its sign of life was written before it took anything.
      return left(await askSince(node, now), instance);
    },
    async alive() {
      const nodes: string[] = [];
      for await (const { key } of repository.bucket.list(NODES)) {
        const node = nodeOfKey(key);
        if (node !== undefined) nodes.push(node);
      }
      for (const node of heard.keys()) if (!nodes.includes(node)) heard.delete(node);
      const found: HeartbeatRecord[] = [];
      const looks = mapAhead(nodes, NODES_AHEAD, async (node) => {
        const known = heard.get(node);
        return known !== undefined && clock() - known.began < FRESH ? known : await askSince(node, clock());
      });
      for await (const each of looks) if (each !== undefined && left(each) > 0) found.push(each.record);
      return found;
    },
  };
}

/**
 * Watches a node until it is sure whether it lives: it gives a sign of life meanwhile, or is given up. For who has not watched it before, and
 * cannot tell by one look. Lasts for one interval of its heartbeats, or for the window.
 * Errors: UnavailableError where the repository cannot be asked; the signal's reason.
 */
export async function isAlive(
  nodes: Pick<NodeObserver, 'look'>,
  node: NodeIdentity,
  { signal, interval = WATCH_INTERVAL }: { readonly signal?: AbortSignal; readonly interval?: number } = {},
): Promise<boolean> {
  for (let before = await nodes.look(node); before > 0; ) {
    await sleep(interval, undefined, { signal });
    const now = await nodes.look(node);
    // Without a new one there would be less left.
    if (now >= before && now > 0) return true;
    before = now;
  }
  return false;
}
