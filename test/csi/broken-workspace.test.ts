import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canMount } from '../support/privilege.ts';
import { type CsiClient, connectCsi, mountCapability } from './client.ts';
import { endVolume, makeVolume, startVolume } from './node-volume.ts';
import { createPlugin, type TestPlugin } from './plugin.ts';

describe.skipIf(!canMount)('a workspace whose file system the kernel has given up', () => {
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

  it('is abnormal, and is well again with all that was synced when it is staged anew', async () => {
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
});
