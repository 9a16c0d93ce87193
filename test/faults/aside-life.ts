import { rmSync } from 'node:fs';
import { expect } from 'vitest';
import { deleteBranch, listBranches } from '../../dataset/refs.ts';
import { volumeCalls } from '../csi/volume.ts';
import { digestsOfDirectory, digestsOfVersion } from '../support/digests.ts';
import { create, type Life, savedIn, writers, writtenBy } from './lives.ts';

/**
 * The node crashes with changes that are not saved, another takes the volume, and the first comes back: it sets its changes aside, and what the
 * other has stays as it is.
 */
export const asideLife: Life = async (world, name) => {
  const { callOther, cluster, node, other } = world;
  const { repository } = cluster;
  const volume = await create(world, name);
  const { volumeId } = volume;
  await volume.stage();
  await volume.publish('pod');
  const lost = await writtenBy(volume, 'pod');
  await world.crash();
  // As its kubelet's directory is after a restart of the machine.
  rmSync(volume.targetOf('pod'), { recursive: true });
  await repository.bucket.delete(`nodes/${node.name}/alive`);

  if (other.pid === undefined) await other.start();
  const there = volumeCalls(callOther, other.directory, volumeId, writers);
  await there.stage();
  await there.publish('pod there');
  expect(await digestsOfDirectory(there.targetOf('pod there'))).toEqual(await digestsOfDirectory(world.source));
  const written = await writtenBy(there, 'pod there');

  world.revive();
  const asides = async () => {
    const branches = await listBranches(repository, 'numbers');
    return branches.filter((branch) => branch.name.startsWith('aside/'));
  };
  await expect.poll(asides).toHaveLength(1);
  const [aside] = await asides();
  expect(aside?.name).toContain(node.name);
  expect(await digestsOfVersion(repository, aside!.version)).toEqual(lost);
  expect(await digestsOfDirectory(there.targetOf('pod there'))).toEqual(written);
  await there.unpublish('pod there');
  await there.unstage();
  expect(await savedIn(world, volumeId)).toEqual(written);
  // There, where its image is.
  await callOther.call('DeleteVolume', { volumeId });
  await expect.poll(() => other.leftovers()).toEqual([]);
  for (const { name } of await asides()) await deleteBranch(repository, 'numbers', name);
};
