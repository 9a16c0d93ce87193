import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { digestsOfDirectory } from '../support/digests.ts';
import { mountCapability } from './client.ts';
import type { TestPlugin } from './plugin.ts';

// biome-ignore lint/suspicious/noExplicitAny: as in CsiClient
type Make = (method: string, request?: object) => Promise<any>;

const MIB = 2 ** 20;
const writers = mountCapability('SINGLE_NODE_MULTI_WRITER');
const size = (mebibytes: number) => ({ requiredBytes: String(mebibytes * MIB) });

/** What an inline ephemeral volume of a pod comes with. */
export const ephemeralContext = {
  'csi.storage.k8s.io/ephemeral': 'true',
  'csi.storage.k8s.io/pod.name': 'a-pod',
  'csi.storage.k8s.io/pod.namespace': 'a-namespace',
  'csi.storage.k8s.io/serviceAccount.name': 'default',
  dataset: 'numbers',
  writable: 'true',
  size: '300M',
};

/** Services' calls that change something, and that `everyCall` makes. */
export const CHANGING = [
  'CreateVolume',
  'ControllerModifyVolume',
  'ControllerExpandVolume',
  'NodeStageVolume',
  'NodePublishVolume',
  'NodeExpandVolume',
  'CreateSnapshot',
  'CreateVolumeGroupSnapshot',
  'DeleteVolumeGroupSnapshot',
  'DeleteSnapshot',
  'NodeUnpublishVolume',
  'NodeUnstageVolume',
  'DeleteVolume',
];

/** Those that only tell. */
export const TELLING = [
  'GetPluginInfo',
  'GetPluginCapabilities',
  'Probe',
  'ControllerGetCapabilities',
  'GroupControllerGetCapabilities',
  'NodeGetCapabilities',
  'NodeGetInfo',
  'ControllerGetVolume',
  'ListVolumes',
  'ValidateVolumeCapabilities',
  'GetCapacity',
  'GetSnapshot',
  'ListSnapshots',
  'GetVolumeGroupSnapshot',
  'NodeGetVolumeStats',
  'ControllerGetVolumeHealth',
  'ControllerListVolumeHealth',
  'NodeGetVolumeHealth',
  'NodeGetStorageHealth',
];

/**
 * The lives of some volumes of the dataset `numbers`, of snapshots and of a group of them, in which every call that the plugin serves is made by
 * `make`. It is right or throws, whatever `make` does besides.
 */
export async function everyCall(plugin: TestPlugin, name: string, make: Make): Promise<void> {
  for (const method of TELLING.filter((method) => /Info|Capabilities$|Probe|GetCapacity|StorageHealth/.test(method))) {
    if (method !== 'ValidateVolumeCapabilities') await make(method, {});
  }
  const creation = { volumeCapabilities: [writers], parameters: { dataset: 'numbers' } };
  const { volume } = await make('CreateVolume', { name, ...creation, capacityRange: size(300) });
  const { volumeId } = volume;
  const kubelet = join(plugin.directory, 'kubelet', volumeId);
  const staged = { volumeId, stagingTargetPath: join(kubelet, 'globalmount'), volumeCapability: writers };
  const targetPath = join(kubelet, 'pod');
  const published = { ...staged, targetPath };

  await make('ControllerModifyVolume', { volumeId, mutableParameters: { autosave: '5m' } });
  await make('NodeStageVolume', staged);
  await make('NodePublishVolume', published);
  writeFileSync(join(targetPath, 'result.txt'), 'written by a pod');
  const written = await digestsOfDirectory(targetPath);
  await make('ControllerExpandVolume', { volumeId, capacityRange: size(400) });
  const grown = await make('NodeExpandVolume', { volumeId, volumePath: targetPath, capacityRange: size(400) });
  expect(Number(grown.capacityBytes)).toBe(400 * MIB);

  await make('ListVolumes', {});
  for (const method of ['ControllerGetVolume', 'ControllerGetVolumeHealth']) await make(method, { volumeId });
  await make('ControllerListVolumeHealth', {});
  await make('ValidateVolumeCapabilities', { volumeId, volumeCapabilities: [writers] });
  await make('NodeGetVolumeStats', { volumeId, volumePath: targetPath });
  await make('NodeGetVolumeHealth', { volumeId, volumePath: targetPath });

  const { snapshot } = await make('CreateSnapshot', { name: `snapshot of ${name}`, sourceVolumeId: volumeId });
  const { snapshotId } = snapshot;
  await untilReady(make, snapshotId);
  await make('ListSnapshots', { snapshotId });
  for (const volumeContentSource of [{ snapshot: { snapshotId } }, { volume: { volumeId } }])
    await expectCopy(plugin, `${Object.keys(volumeContentSource)} of ${name}`, { volumeContentSource }, make, written);
  await make('DeleteSnapshot', { snapshotId });

  const { groupSnapshot } = await make('CreateVolumeGroupSnapshot', {
    name: `group of ${name}`,
    sourceVolumeIds: [volumeId],
  });
  const { groupSnapshotId, snapshots } = groupSnapshot;
  const snapshotIds: string[] = snapshots.map((member: { snapshotId: string }) => member.snapshotId);
  expect(snapshotIds).toHaveLength(1);
  await make('GetVolumeGroupSnapshot', { groupSnapshotId, snapshotIds });
  await make('DeleteVolumeGroupSnapshot', { groupSnapshotId, snapshotIds });

  expect(await digestsOfDirectory(targetPath)).toEqual(written);
  await make('NodeUnpublishVolume', { volumeId, targetPath });
  await make('NodeUnstageVolume', staged);
  await make('DeleteVolume', { volumeId });

  const ephemeral = { volumeId: `csi-${volumeId}`, targetPath: join(kubelet, 'ephemeral') };
  const request = { ...ephemeral, volumeCapability: writers, volumeContext: ephemeralContext };
  await make('NodePublishVolume', request);
  writeFileSync(join(ephemeral.targetPath, 'scratch'), 'gone with the pod');
  await make('NodeUnpublishVolume', ephemeral);
}

async function untilReady(make: Make, snapshotId: string): Promise<void> {
  await expect.poll(async () => (await make('GetSnapshot', { snapshotId })).snapshot.readyToUse).toBe(true);
}

/** What a pod sees of a volume that is made of something. */
async function expectCopy(
  plugin: TestPlugin,
  name: string,
  source: object,
  make: Make,
  expected: Readonly<Record<string, string>>,
): Promise<void> {
  const { volume } = await make('CreateVolume', { name, volumeCapabilities: [writers], ...source });
  const { volumeId } = volume;
  const kubelet = join(plugin.directory, 'kubelet', volumeId);
  const staged = { volumeId, stagingTargetPath: join(kubelet, 'globalmount'), volumeCapability: writers };
  const targetPath = join(kubelet, 'pod');
  await make('NodeStageVolume', staged);
  await make('NodePublishVolume', { ...staged, targetPath });
  expect(await digestsOfDirectory(targetPath)).toEqual(expected);
  await make('NodeUnpublishVolume', { volumeId, targetPath });
  await make('NodeUnstageVolume', staged);
  await make('DeleteVolume', { volumeId });
}
