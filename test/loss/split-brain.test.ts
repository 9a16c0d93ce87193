import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFailed } from 'vitest';
import { digestsOfDirectory, digestsOfVersion } from '../support/digests.ts';
import { canMount } from '../support/privilege.ts';
import { createLossWorld, type LossWorld, untilAllowed } from './world.ts';

describe.skipIf(!canMount)('a node that was cut off, and writes on', () => {
  let world: LossWorld;
  beforeAll(async () => {
    world = await createLossWorld();
  });
  beforeEach(() => onTestFailed(() => console.error(world.logs())));
  afterAll(() => world?.[Symbol.asyncDispose]());

  it('cannot save over the node that took its volume, and what it wrote is kept aside, all of it', async () => {
    const { first, second, cluster } = world;
    const volumeId = await world.createWorkspace('torn', '1s');
    const old = first.of(volumeId);
    await old.stage();
    await old.publish('pod');
    const oldPod = old.targetOf('pod');
    writeFileSync(join(oldPod, 'before.txt'), 'saved before it was cut off');
    const before = await digestsOfDirectory(oldPod);
    await expect.poll(() => world.savedIn(volumeId)).toEqual(before);

    // Nothing of it runs, but for the pod.
    first.node.pause();
    writeFileSync(join(oldPod, 'late.txt'), 'written while it was cut off');
    writeFileSync(join(oldPod, 'before.txt'), 'changed while it was cut off');

    const current = second.of(volumeId);
    const refusals = await untilAllowed(() => current.stageOnce());
    for (const { code, details } of refusals) {
      expect(code).toBe(status.UNAVAILABLE);
      expect(details).toContain('first');
    }
    expect(refusals.length, 'a node that was alive a moment ago was not waited for').toBeGreaterThan(0);
    await current.publish('pod');
    const pod = current.targetOf('pod');
    expect(await digestsOfDirectory(pod)).toEqual(before);
    writeFileSync(join(pod, 'newer.txt'), 'by the node that has it now');
    const newer = await digestsOfDirectory(pod);
    await expect.poll(() => world.savedIn(volumeId)).toEqual(newer);

    first.node.resume();
    const late = await digestsOfDirectory(oldPod);
    const asideVersions = async () => {
      const branches = await world.asides();
      return await Promise.all(branches.map(({ version }) => digestsOfVersion(cluster.repository, version)));
    };
    await expect.poll(asideVersions).toContainEqual(late);
    // The pod there goes on, and so does what is kept of it.
    writeFileSync(join(oldPod, 'later.txt'), 'written after it was set aside');
    const last = await digestsOfDirectory(oldPod);
    const stats = await first.caller.call('NodeGetVolumeStats', { volumeId, volumePath: oldPod });
    expect(stats.volumeCondition).toMatchObject({ abnormal: true });
    await old.unpublish('pod');
    await old.unstage();
    await expect.poll(asideVersions).toContainEqual(last);
    for (const { name } of await world.asides()) expect(name).toMatch(/^aside\/torn\/first-/);

    // To the one that has it, nothing happened.
    expect(await digestsOfDirectory(pod)).toEqual(newer);
    writeFileSync(join(pod, 'newest.txt'), 'it can save');
    const newest = await digestsOfDirectory(pod);
    await expect.poll(() => world.savedIn(volumeId)).toEqual(newest);
    await current.unpublish('pod');
    await current.unstage();
    await second.caller.call('DeleteVolume', { volumeId });
    await expect.poll(() => world.leftovers()).toEqual([]);
    expect(await cluster.leftovers()).toEqual([]);
  });

  it('that comes back after a crash keeps aside what its disk has, and none of it comes into the volume', async () => {
    const { first, second, cluster } = world;
    const volumeId = await world.createWorkspace('crashed', 'off');
    const old = first.of(volumeId);
    await old.stage();
    await old.publish('pod');
    writeFileSync(join(old.targetOf('pod'), 'unsaved.txt'), 'on its disk alone');
    const unsaved = await digestsOfDirectory(old.targetOf('pod'));
    await first.node.crash();

    const current = second.of(volumeId);
    await untilAllowed(() => current.stageOnce());
    await current.publish('pod');
    writeFileSync(join(current.targetOf('pod'), 'newer.txt'), 'by the node that has it now');
    const newer = await digestsOfDirectory(current.targetOf('pod'));
    await current.unpublish('pod');
    await current.unstage();
    expect(await world.savedIn(volumeId)).toEqual(newer);
    await second.caller.call('DeleteVolume', { volumeId });

    // By now, even the volume is gone.
    await first.node.start();
    const kept = async () => {
      const branches = (await world.asides()).filter(({ name }) => name.startsWith('aside/crashed/'));
      return await Promise.all(branches.map(({ version }) => digestsOfVersion(cluster.repository, version)));
    };
    await expect.poll(kept).toEqual([unsaved]);
    await expect.poll(() => world.leftovers()).toEqual([]);
    expect(await cluster.leftovers()).toEqual([]);
  });
});
