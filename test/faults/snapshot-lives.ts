import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { TreeDigests } from '../support/digests.ts';
import { create, type Life, savedIn, writers, writtenBy } from './lives.ts';
import type { FaultWorld } from './world.ts';

/** A volume that a pod uses is cut, goes on changing, and is restored as it was cut. */
export const snapshotLife: Life = async (world, name) => {
  const { call } = world;
  const volume = await create(world, name);
  const { volumeId } = volume;
  await volume.stage();
  await volume.publish('pod');
  const written = await writtenBy(volume, 'pod');
  const asked = { name: `snapshot ${name}`, sourceVolumeId: volumeId };
  const { snapshot } = await call.call('CreateSnapshot', asked);
  writeFileSync(join(volume.targetOf('pod'), 'later.txt'), 'after the cut');
  const { snapshotId } = snapshot;
  await untilReady(world, snapshotId);
  const again = await call.call('CreateSnapshot', asked);
  expect(again.snapshot).toMatchObject({ snapshotId, creationTime: snapshot.creationTime });
  await expectRestored(world, `restored ${name}`, snapshotId, written);
  await call.call('DeleteSnapshot', { snapshotId });
  await volume.unpublish('pod');
  await volume.unstage();
  await call.call('DeleteVolume', { volumeId });
};

/** Two volumes of one node are cut at one moment. */
export const groupLife: Life = async (world, name) => {
  const { call } = world;
  const volumes = [await create(world, `${name} 1`), await create(world, `${name} 2`)];
  const written = new Map<string, TreeDigests>();
  for (const volume of volumes) {
    await volume.stage();
    await volume.publish('pod');
    written.set(volume.volumeId, await writtenBy(volume, 'pod'));
  }
  const { groupSnapshot } = await call.call('CreateVolumeGroupSnapshot', {
    name: `group ${name}`,
    sourceVolumeIds: volumes.map(({ volumeId }) => volumeId),
  });
  const { groupSnapshotId, snapshots } = groupSnapshot;
  const snapshotIds: string[] = snapshots.map(({ snapshotId }: { snapshotId: string }) => snapshotId);
  for (const { snapshotId, sourceVolumeId } of snapshots) {
    await untilReady(world, snapshotId);
    await expectRestored(world, `restored ${snapshotId}`, snapshotId, written.get(sourceVolumeId)!);
  }
  await call.call('DeleteVolumeGroupSnapshot', { groupSnapshotId, snapshotIds });
  for (const volume of volumes) {
    await volume.unpublish('pod');
    await volume.unstage();
    await call.call('DeleteVolume', { volumeId: volume.volumeId });
  }
};

async function untilReady({ call }: FaultWorld, snapshotId: string): Promise<void> {
  const isReady = async () => (await call.call('GetSnapshot', { snapshotId })).snapshot.readyToUse;
  await expect.poll(isReady).toBe(true);
}

/** By what the repository has for a volume that is made of it. */
async function expectRestored(
  world: FaultWorld,
  name: string,
  snapshotId: string,
  expected: TreeDigests,
): Promise<void> {
  const { volume } = await world.call.call('CreateVolume', {
    name,
    volumeCapabilities: [writers],
    volumeContentSource: { snapshot: { snapshotId } },
  });
  expect(await savedIn(world, volume.volumeId)).toEqual(expected);
  await world.call.call('DeleteVolume', { volumeId: volume.volumeId });
}
