import { setTimeout as sleep } from 'node:timers/promises';
import { type BarrierStep, barrierKey } from '../../dataset/asks.ts';
import type { Bucket } from '../../dataset/bucket/bucket.ts';
import { UnavailableError } from '../../dataset/errors.ts';

/*
 * Nodes that clone together meet twice: when all that can be written before is written, and when all is frozen. A node goes on from the second
 * meeting only once it has seen that every other one is frozen, and is frozen itself until it has cloned: the moment at which the last of them
 * froze is in the clones of all.
 */

export interface Barrier {
  readonly bucket: Bucket;
  readonly attempt: string;
  /** All that take part. */
  readonly nodes: readonly string[];
  /** Which of them this is. */
  readonly node: string;
}

/** Between two looks, in milliseconds: first, and at most. */
const FIRST_LOOK = 10;
const LONGEST_LOOK = 200;

/**
 * Tells the others that this node has come to a step, and waits until all have.
 * Errors: UnavailableError that names who did not come, when the signal aborts.
 */
export async function meet(
  { bucket, attempt, nodes, node }: Barrier,
  step: BarrierStep,
  signal: AbortSignal,
): Promise<void> {
  const missing = new Set(nodes.filter((each) => each !== node));
  try {
    await bucket.put(barrierKey(node, attempt, step), Buffer.from(`${step}\n`), { signal });
    for (let pause = FIRST_LOOK; missing.size > 0; pause = Math.min(pause * 1.5, LONGEST_LOOK)) {
      const looks = [...missing].map(async (each) => {
        if ((await bucket.head(barrierKey(each, attempt, step), signal)) !== undefined) missing.delete(each);
      });
      await Promise.all(looks);
      if (missing.size > 0) await sleep(pause, undefined, { signal });
    }
  } catch (error) {
    if (!signal.aborted) throw error;
    throw new UnavailableError(
      `no snapshot of the group: ${[...missing].join(', ')} did not come to be ${step} in time: try again, or allow a longer pause`,
      { cause: error, facts: { attempt, step } },
    );
  }
}
