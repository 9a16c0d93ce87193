import { availableParallelism, loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFailed } from 'vitest';
import { readVolume } from '../../controller/volumes.ts';
import { canMount } from '../support/privilege.ts';
import { checkJournal, JOURNAL, startJournalWriter } from './journal.ts';
import { createLossWorld, type LossWorld, untilAllowed } from './world.ts';

/** How often the volume is saved, in milliseconds. */
const AUTOSAVE = 2_000;
/** What one save of such small changes takes at most, with its upload. */
const UPLOAD = 3_000;
/** Saves come last: on a machine with so many times as much work as it can do, they take so many times as long. */
const crowd = () => Math.max(1, loadavg()[0]! / availableParallelism());
/** Between two files that the pod writes, in milliseconds. */
const PAUSE = 20;

describe.skipIf(!canMount)('a node that is lost with its disk', () => {
  let world: LossWorld;
  beforeAll(async () => {
    world = await createLossWorld();
  });
  beforeEach(() => onTestFailed(() => console.error(world.logs())));
  afterAll(() => world?.[Symbol.asyncDispose]());

  /** Between so many saves and the one before each, in milliseconds. */
  async function gapsOf(volumeId: string, saves: number): Promise<number[]> {
    const times = new Set<string>();
    while (times.size <= saves) {
      const { savedAt } = await readVolume(world.cluster.repository, volumeId);
      if (savedAt !== undefined) times.add(savedAt);
      await sleep(50);
    }
    const moments = [...times].map(Date.parse);
    return moments.slice(1).map((moment, at) => moment - moments[at]!);
  }

  it('takes with it what was written in the window that is promised, and nothing that is older', async () => {
    const { first, second, cluster } = world;
    const volumeId = await world.createWorkspace('lost', `${AUTOSAVE / 1000}s`);
    const there = first.of(volumeId);
    await there.stage();
    await there.publish('pod');
    const writer = startJournalWriter(there.targetOf('pod'), PAUSE);
    // The process that saves has begun.
    await expect.poll(async () => Object.keys(await world.savedIn(volumeId))).toContain(JOURNAL);
    const gaps = await gapsOf(volumeId, 3);
    // Not in step with the saves.
    await sleep(AUTOSAVE * Math.random());
    await first.node.crash({ wipe: true });
    const crashed = Date.now();
    await writer.stop();
    const written = writer.last();
    expect(written).toBeGreaterThan(50);

    const here = second.of(volumeId);
    const refusals = await untilAllowed(() => here.stageOnce());
    for (const { code } of refusals) expect(code).toBe(status.UNAVAILABLE);
    expect(refusals.length, 'a node that was alive a moment ago was not waited for').toBeGreaterThan(0);
    const takenAfter = Date.now() - crashed;
    await here.publish('pod');
    const kept = checkJournal(here.targetOf('pod'));
    expect(kept).toBeGreaterThan(0);
    expect(kept).toBeLessThanOrEqual(written);
    // From the first file that is gone on.
    const lost = kept === written ? 0 : crashed - writer.writtenAt(kept + 1);
    const between = Math.max(...gaps);
    console.log(
      `node lost: ${lost} ms of writes are gone (saved every ${AUTOSAVE} ms, in fact every ${between} ms at most; ${written - kept} of ${written + 1} files), staged elsewhere after ${takenAfter} ms`,
    );
    expect(between).toBeLessThanOrEqual(AUTOSAVE + UPLOAD * crowd());
    expect(lost).toBeLessThanOrEqual(between + UPLOAD * crowd());

    // The volume goes on from there, and the node that lost its disk comes back with nothing.
    await first.node.start();
    await here.unpublish('pod');
    await here.unstage();
    expect(await world.asides()).toEqual([]);
    await second.caller.call('DeleteVolume', { volumeId });
    await expect.poll(() => world.leftovers()).toEqual([]);
    expect(await cluster.leftovers()).toEqual([]);
  });
});
