import { existsSync, statfsSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { readVolume } from '../../controller/volumes.ts';
import { mountCapability } from '../csi/client.ts';
import { type VolumeCalls, volumeCalls } from '../csi/volume.ts';
import { digestsOfDirectory, digestsOfVersion, type TreeDigests } from '../support/digests.ts';
import type { FaultWorld } from './world.ts';

/** A life of volumes, from their creation to their deletion, each call repeated until it succeeds. It says what must be true all along. */
export type Life = (world: FaultWorld, name: string) => Promise<void>;

export const MIB = 2 ** 20;
export const writers = mountCapability('SINGLE_NODE_MULTI_WRITER');

export async function create(world: FaultWorld, name: string, parameters: Readonly<Record<string, string>> = {}) {
  const answer = await world.call.call('CreateVolume', {
    name,
    volumeCapabilities: [writers],
    capacityRange: { requiredBytes: String(300 * MIB) },
    parameters: { dataset: 'numbers', autosave: 'off', ...parameters },
  });
  const volumeId: string = answer.volume.volumeId;
  return volumeCalls(world.call, world.node.directory, volumeId, writers);
}

/** What a pod writes, and what is in its volume then. */
export async function writtenBy(volume: VolumeCalls, pod: string): Promise<TreeDigests> {
  const target = volume.targetOf(pod);
  writeFileSync(join(target, 'result.txt'), `of ${pod}`);
  writeFileSync(join(target, 'deep/0.bin'), `changed by ${pod}`);
  return await digestsOfDirectory(target);
}

/** What the volume's record says that its content is, as the repository has it. */
export async function savedIn({ cluster: { repository } }: FaultWorld, volumeId: string): Promise<TreeDigests> {
  const { version } = await readVolume(repository, volumeId);
  return await digestsOfVersion(repository, version);
}

/** Nothing on the node. */
export const recordLife: Life = async (world, name) => {
  const { call } = world;
  const { volumeId } = await create(world, name, { retention: 'keep' });
  await call.call('ControllerModifyVolume', { volumeId, mutableParameters: { autosave: '5m' } });
  const { capacityBytes } = await call.call('ControllerExpandVolume', {
    volumeId,
    capacityRange: { requiredBytes: String(400 * MIB) },
  });
  expect(Number(capacityBytes)).toBeGreaterThanOrEqual(400 * MIB);
  await call.call('DeleteVolume', { volumeId });
};

/** A pod writes, and what it wrote is saved when the volume is unstaged. */
export const stagedLife: Life = async (world, name) => {
  const { call } = world;
  const volume = await create(world, name);
  const { volumeId } = volume;
  await volume.stage();
  await volume.publish('pod');
  const written = await writtenBy(volume, 'pod');
  await volume.unpublish('pod');
  expect(existsSync(volume.targetOf('pod'))).toBe(false);
  await volume.unstage();
  await expect.poll(() => savedIn(world, volumeId)).toEqual(written);
  await volume.stage();
  await volume.publish('again');
  expect(await digestsOfDirectory(volume.targetOf('again'))).toEqual(written);
  await volume.unpublish('again');
  await volume.unstage();
  await call.call('DeleteVolume', { volumeId });
};

/** A volume grows below a pod that has written. */
export const grownLife: Life = async (world, name) => {
  const { call } = world;
  const volume = await create(world, name);
  const { volumeId } = volume;
  await volume.stage();
  await volume.publish('pod');
  const target = volume.targetOf('pod');
  const written = await writtenBy(volume, 'pod');
  const grown = { volumeId, capacityRange: { requiredBytes: String(400 * MIB) } };
  await call.call('ControllerExpandVolume', grown);
  const { capacityBytes } = await call.call('NodeExpandVolume', { ...grown, volumePath: target });
  expect(Number(capacityBytes)).toBe(400 * MIB);
  const { blocks, bsize } = statfsSync(target);
  // Less what XFS keeps for itself.
  expect(blocks * bsize).toBeGreaterThan(320 * MIB);
  expect(await digestsOfDirectory(target)).toEqual(written);
  await volume.unpublish('pod');
  await volume.unstage();
  await call.call('DeleteVolume', { volumeId });
};

/** What a pod writes is saved while it runs. */
export const savedLife: Life = async (world, name) => {
  const volume = await create(world, name, { autosave: '1s' });
  const { volumeId } = volume;
  await volume.stage();
  await volume.publish('pod');
  for (const pod of ['pod', 'pod again']) {
    writeFileSync(join(volume.targetOf('pod'), `${pod}.txt`), pod);
    const written = await digestsOfDirectory(volume.targetOf('pod'));
    await expect.poll(() => savedIn(world, volumeId)).toEqual(written);
  }
  await volume.unpublish('pod');
  await volume.unstage();
  await world.call.call('DeleteVolume', { volumeId });
};

/** A volume that has no record. */
export const ephemeralLife: Life = async (world, name) => {
  const volumeId = `csi-${name.replaceAll(' ', '-')}`;
  const volume = volumeCalls(world.call, world.node.directory, volumeId, writers);
  const volumeContext = {
    'csi.storage.k8s.io/ephemeral': 'true',
    'csi.storage.k8s.io/pod.name': 'a-pod',
    'csi.storage.k8s.io/pod.namespace': 'a-namespace',
    'csi.storage.k8s.io/serviceAccount.name': 'default',
    dataset: 'numbers',
    writable: 'true',
    size: '300M',
  };
  await volume.publish('pod', { stagingTargetPath: '', volumeContext });
  const target = volume.targetOf('pod');
  expect(await digestsOfDirectory(target)).toEqual(await digestsOfDirectory(world.source));
  writeFileSync(join(target, 'scratch'), 'gone with the pod');
  expect(await readFile(join(target, 'scratch'), 'utf8')).toBe('gone with the pod');
  await volume.unpublish('pod');
  expect(existsSync(target)).toBe(false);
};
