import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Repository } from '../dataset/repository.ts';
import type { NodeIdentity } from '../dataset/volume-terms.ts';
import { encodeHeartbeat, heartbeatKey, type NodeFacts } from './heartbeat-record.ts';

/** How often a node gives a sign of life, in milliseconds. */
export const BEAT_INTERVAL = 10_000;

export interface HeartbeatOptions {
  readonly repository: Pick<Repository, 'bucket'>;
  readonly node: NodeIdentity;
  /** Asked before each beat. */
  readonly facts: () => NodeFacts | Promise<NodeFacts>;
  /** In milliseconds; BEAT_INTERVAL if not said. */
  readonly interval?: number;
  /** Told of each beat that was not written: the next one is tried all the same. */
  readonly onError: (error: unknown) => void;
  /** Waits between two beats, for tests; rejects when `signal` is aborted. */
  readonly wait?: (milliseconds: number, signal: AbortSignal) => Promise<unknown>;
}

export interface Heartbeat {
  /** Resolved when the first beat is written: from then on the node may take volumes. Never rejected. */
  readonly beating: Promise<void>;
  /**
   * Gives no more signs of life.
   * @param options.remove whether the last one is taken back, so that others need not wait until they give the node up: only where the node
   * holds no volume any more
   */
  stop(options: { readonly remove: boolean }): Promise<void>;
}

/**
 * Gives signs of life for a node, from now on.
 * Errors: InvalidError for the node's name.
 */
export function startHeartbeat(options: HeartbeatOptions): Heartbeat {
  const { repository, node, facts, interval = BEAT_INTERVAL, onError } = options;
  const { bucket } = repository;
  const wait = options.wait ?? ((milliseconds, signal) => sleep(milliseconds, undefined, { signal, ref: false }));
  const key = heartbeatKey(node.node);
  const first = Promise.withResolvers<void>();
  const end = new AbortController();

  const beat = async () => {
    const record = { ...node, ...(await facts()), beat: randomUUID() };
    // One that hangs must not keep back the next.
    const signal = AbortSignal.any([end.signal, AbortSignal.timeout(Math.max(interval, 1_000))]);
    await bucket.put(key, encodeHeartbeat(record), { signal });
    first.resolve();
  };
  const loop = async () => {
    while (!end.signal.aborted) {
      try {
        await beat();
      } catch (error) {
        if (!end.signal.aborted) onError(error);
      }
      if (end.signal.aborted) return;
      try {
        await wait(interval, end.signal);
      } catch (error) {
        if (!end.signal.aborted) throw error;
      }
    }
  };
  const running = loop();
  return {
    beating: first.promise,
    async stop({ remove }) {
      end.abort();
      await running;
      if (remove) await bucket.delete(key);
    },
  };
}
