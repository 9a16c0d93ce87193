import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFailed } from 'vitest';
import { canMount } from '../support/privilege.ts';
import { checkJournal, JOURNAL, startJournalWriter } from './journal.ts';
import { createLossWorld, type LossWorld, untilAllowed } from './world.ts';

/** How often the volume is saved, in milliseconds. */
const AUTOSAVE = 2_000;
/** What one save of such small changes takes at most, with its upload, also on a machine that has other work. */
const UPLOAD = 3_000;
/** Between two files that the pod writes, in milliseconds. */
const PAUSE = 20;

describe.skipIf(!canMount)('a node that is lost with its disk', () => {
  let world: LossWorld;
  beforeAll(async () => {
    world = await createLossWorld();
  });
  beforeEach(() => onTestFailed(() => console.error(world.logs())));
  afterAll(() => world?.[Symbol.asyncDispose]());

  it('takes with it what was written in the window that is promised, and nothing that is older', async () => {
    const { first, second, cluster } = world;
    const volumeId = await world.createWorkspace('lost', `${AUTOSAVE / 1000}s`);
    const there = first.of(volumeId);
    await there.stage();
    await there.publish('pod');
    const writer = startJournalWriter(there.targetOf('pod'), PAUSE);
    // The process that saves has begun.
    await expect.poll(async () => Object.keys(await world.savedIn(volumeId))).toContain(JOURNAL);
    // Not in step with the saves.
    await sleep(AUTOSAVE * (2 + Math.random()));
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
    console.log(
      `node lost: ${lost} ms of writes are gone (saved every ${AUTOSAVE} ms; ${written - kept} of ${written + 1} files), staged elsewhere after ${takenAfter} ms`,
    );
    expect(lost).toBeLessThanOrEqual(AUTOSAVE + UPLOAD);

    // The volume goes on from there, and the node that lost its disk comes back with nothing.
    await first.node.start();
    await here.unpublish('pod');
    await here.unstage();
    expect(await world.asides()).toEqual([]);
    await second.caller.call('DeleteVolume', { volumeId });
    await expect.poll(() => [...first.node.leftovers(), ...second.node.leftovers()]).toEqual([]);
    expect(await cluster.leftovers()).toEqual([]);
  });
});
