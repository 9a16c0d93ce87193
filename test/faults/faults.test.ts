import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFailed } from 'vitest';
import { FAULT_POINTS, type FaultPoint } from '../../system/fault.ts';
import { canMount } from '../support/privilege.ts';
import { asideLife } from './aside-life.ts';
import { ephemeralLife, grownLife, type Life, recordLife, savedLife, stagedLife } from './lives.ts';
import { groupLife, snapshotLife } from './snapshot-lives.ts';
import { createFaultWorld, type FaultWorld } from './world.ts';

/** The life that passes a point, by what its name begins with. */
const lives: Readonly<Record<string, Life>> = {
  create: recordLife,
  delete: recordLife,
  modify: recordLife,
  expand: recordLife,
  stage: stagedLife,
  publish: stagedLife,
  unpublish: stagedLife,
  unstage: stagedLife,
  grow: grownLife,
  save: savedLife,
  aside: asideLife,
  snapshot: snapshotLife,
  group: groupLife,
  ephemeral: ephemeralLife,
};

const lifeOf = (point: FaultPoint): Life => {
  const life = lives[point.slice(0, point.indexOf('.'))];
  if (life === undefined) throw new Error(`no life passes ${point}: add one to lives.ts`);
  return life;
};

describe.skipIf(!canMount)('a plugin that is killed between two effects', () => {
  let world: FaultWorld;

  let isSpoiled = false;

  beforeAll(async () => {
    world = await createFaultWorld({});
  });
  // What a life that failed has left is no fault of the next.
  beforeEach(async () => {
    if (!isSpoiled) return;
    isSpoiled = false;
    await world.close();
    world = await createFaultWorld({});
  });
  afterAll(() => world?.close());

  beforeEach(() =>
    onTestFailed(({ task }) => {
      isSpoiled = true;
      console.error(world.logSince());
      console.error(task.result?.errors?.map(({ message }) => message));
    }),
  );

  it.each(FAULT_POINTS)('after %s: repeating the calls mends it, and leaves nothing', async (point) => {
    world.arm(point);
    await lifeOf(point)(world, `killed at ${point}`);
    await expectDeath(point);
  });

  it('after save.cloned, with the process that saves: the same', async () => {
    const point = 'save.cloned';
    world.arm(point);
    const life = lifeOf(point)(world, `both killed at ${point}`);
    await Promise.race([life, until(() => world.passed() !== undefined)]);
    expect(world.passed()?.isDaemon).toBe(false);
    await world.node.stop('SIGKILL');
    await life;
    await expectDeath(point, ['SIGKILL']);
  });

  /** @param ends of the daemon; once, if not said, where it was what passed the point */
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
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(10);
}

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
