import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canMount } from '../support/privilege.ts';
import { type CsiClient, connectCsi, mountCapability } from './client.ts';
import { endVolume, makeVolume, startVolume } from './node-volume.ts';
import { createPlugin, type TestPlugin } from './plugin.ts';

describe.skipIf(!canMount)('on a machine that fails', () => {
  let plugin: TestPlugin;
  let client: CsiClient;

  beforeAll(async () => {
    plugin = await createPlugin();
    const source = join(plugin.directory, 'source');
    mkdirSync(source);
    writeFileSync(join(source, 'file'), 'of the dataset');
    await plugin.importDataset('small', source);
    await plugin.start();
    client = connectCsi(plugin.socket);
  });
  afterAll(async () => {
    client.close();
    await plugin.close();
  });

  it('a workspace whose file system the kernel has given up is abnormal, and well again with all that was synced when it is staged anew', async () => {
    const writers = mountCapability('SINGLE_NODE_MULTI_WRITER');
    const one = await makeVolume(client, join(plugin.directory, 'kubelet'), 'broken', writers, {
      parameters: { dataset: 'small', autosave: 'off' },
    });
    const pod = await startVolume(client, one);
    writeFileSync(join(pod, 'kept'), 'synced', { flush: true });
    const conditionAt = async (volumePath: string) =>
      (await client.call('NodeGetVolumeStats', { volumeId: one.volumeId, volumePath })).volumeCondition;
    expect(await conditionAt(pod)).toMatchObject({ abnormal: false });
    const at = join(plugin.runtime, 'workspaces', encodeURIComponent(one.volumeId));
    execFileSync('xfs_io', ['-x', '-c', 'shutdown', at]);
    expect(() => writeFileSync(join(pod, 'lost'), '')).toThrow(/EIO/);
    expect(await conditionAt(pod)).toMatchObject({
      abnormal: true,
      message: expect.stringMatching(/the kernel has shut its file system down: look at the disk of/),
    });

    await client.call('NodeUnpublishVolume', one.unpublish('pod'));
    await client.call('NodeUnstageVolume', one.stage);
    await startVolume(client, one);
    expect(await conditionAt(pod)).toMatchObject({ abnormal: false });
    expect(readFileSync(join(pod, 'kept'), 'utf8')).toBe('synced');
    await endVolume(client, one, 'pod');
  });

  it('a volume of one pod is gone with its pod when the machine is started anew, and no other', async () => {
    const attributes = { dataset: 'small', writable: 'true', 'csi.storage.k8s.io/ephemeral': 'true' };
    const targetPath = join(plugin.directory, 'pod');
    await client.call('NodePublishVolume', {
      volumeId: 'csi-of-a-pod',
      targetPath,
      volumeCapability: mountCapability('SINGLE_NODE_WRITER'),
      volumeContext: attributes,
    });
    writeFileSync(join(targetPath, 'scratch'), 'of this pod', { flush: true });
    const writers = mountCapability('SINGLE_NODE_MULTI_WRITER');
    const one = await makeVolume(client, join(plugin.directory, 'kubelet'), 'survivor', writers, {
      parameters: { dataset: 'small', autosave: 'off' },
    });
    writeFileSync(join(await startVolume(client, one), 'kept'), 'synced', { flush: true });
    expect(plugin.workspaces().filter((name) => name.startsWith('csi-'))).toHaveLength(2);

    await plugin.crash();
    await plugin.start();
    expect(plugin.workspaces().filter((name) => name.startsWith('csi-'))).toEqual([]);
    // The kubelet asks for its end all the same.
    await client.call('NodeUnpublishVolume', { volumeId: 'csi-of-a-pod', targetPath });
    const pod = await startVolume(client, one);
    expect(readFileSync(join(pod, 'kept'), 'utf8')).toBe('synced');
    await endVolume(client, one, 'pod');
  });
});
