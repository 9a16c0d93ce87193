import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFailed } from 'vitest';
import { FAULT_POINTS, type FaultPoint } from '../../system/fault.ts';
import { canMount } from '../support/privilege.ts';
import type { Life } from './lives.ts';
import { createFaultWorld, type FaultWorld } from './world.ts';

/** Lives by what the names of the points that they pass begin with. */
export type Lives = Readonly<Record<string, Life>>;

/** The life that passes a point; undefined where none of these does. */
export const lifeOf = (lives: Lives, point: FaultPoint): Life | undefined => lives[point.slice(0, point.indexOf('.'))];

/**
 * Ends a plugin at each point that one of these lives passes, by SIGKILL, while the life goes on to its end.
 * @param more tests in the same world
 */
export function describeFaults(lives: Lives, more: (suite: FaultSuite) => void = () => {}): void {
  describe.skipIf(!canMount)('a plugin that is killed between two effects', () => suite(lives, more));
}

export interface FaultSuite {
  readonly world: () => FaultWorld;
  /**
   * That a process has ended at the point, by SIGKILL, and that nothing is left.
   * @param ends of the daemon; once, if not said, where it was what passed the point
   */
  expectDeath(point: FaultPoint, ends?: readonly string[]): Promise<void>;
}

function suite(lives: Lives, more: (suite: FaultSuite) => void): void {
  let world: FaultWorld;
  let isSpoiled = false;

  beforeAll(async () => {
    world = await createFaultWorld();
  });
  // What a life that failed has left is no fault of the next.
  beforeEach(async () => {
    if (!isSpoiled) return;
    isSpoiled = false;
    await world.close();
    world = await createFaultWorld();
  });
  afterAll(() => world?.close());

  beforeEach(() =>
    onTestFailed(({ task }) => {
      isSpoiled = true;
      console.error(world.logSince());
      console.error(task.result?.errors?.map(({ message }) => message));
    }),
  );

  const points = FAULT_POINTS.filter((point) => lifeOf(lives, point) !== undefined);
  it.each(points)('after %s: repeating the calls mends it, and leaves nothing', async (point) => {
    world.arm(point);
    await lifeOf(lives, point)!(world, `killed at ${point}`);
    await expectDeath(point);
  });

  more({ world: () => world, expectDeath });

  async function expectDeath(point: FaultPoint, ends?: readonly string[]): Promise<void> {
    // What goes on in the background may come to it after the last call.
    await expect.poll(() => world.passed(), { message: 'no process passed the point' }).toMatchObject({ point });
    world.disarm();
    const death = world.passed();
    await expect.poll(() => world.ends).toEqual(ends ?? (death?.isDaemon ? ['SIGKILL'] : []));
    expect(isThere(death!.pid)).toBe(false);
    await expect.poll(() => world.node.leftovers()).toEqual([]);
    expect(await world.cluster.leftovers()).toEqual([]);
  }
}

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
