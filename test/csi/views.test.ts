import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest';
import { readVolume } from '../../controller/volumes.ts';
import { textOf } from '../../dataset/byte-string.ts';
import { readEntries } from '../../dataset/manifest.ts';
import { readVersion } from '../../dataset/version.ts';
import { canMount } from '../support/privilege.ts';
import { type CsiClient, connectCsi, mountCapability } from './client.ts';
import { createCluster, type TestCluster } from './cluster.ts';
import type { ClusterNode } from './cluster-node.ts';
import { makeVolume, nodeVolume, startVolume } from './node-volume.ts';

const inGroup = (group: number) => mountCapability('SINGLE_NODE_MULTI_WRITER', { volumeMountGroup: `${group}` });

describe.skipIf(!canMount)('a workspace whose pods have other groups on other nodes', () => {
  let cluster: TestCluster;
  let nodes: readonly { readonly node: ClusterNode; readonly client: CsiClient; readonly kubelet: string }[];

  beforeAll(async () => {
    cluster = await createCluster();
    // Pods without rights go through it.
    chmodSync(cluster.directory, 0o755);
    const source = join(cluster.directory, 'source');
    mkdirSync(join(source, 'deep'), { recursive: true });
    for (const name of ['one', 'deep/two', 'deep/three']) writeFileSync(join(source, name), name.repeat(1000));
    execFileSync('chown', ['-R', '7:8', source]);
    execFileSync('chmod', ['-R', 'u=rwX,g=,o=', source]);
    await cluster.importDataset('owned', source);
    nodes = await Promise.all(
      ['one', 'two'].map(async (name) => {
        const node = cluster.node(name);
        await node.start();
        chmodSync(join(cluster.directory, name), 0o755);
        return { node, client: connectCsi(node.socket), kubelet: join(cluster.directory, name, 'kubelet') };
      }),
    );
  });

  afterAll(async () => {
    for (const { client } of nodes ?? []) client.close();
    await cluster?.close();
  });

  const as = (uid: number, group: number, cwd: string, script: string) => {
    const rights = ['--reuid', `${uid}`, '--regid', `${uid}`, '--groups', `${group}`];
    return execFileSync('setpriv', [...rights, 'sh', '-ec', `umask 022; ${script}`], { cwd, encoding: 'utf8' });
  };

  async function ownersOf(volumeId: string): Promise<Record<string, string>> {
    const { version } = await readVolume(cluster.repository, volumeId);
    const { root } = await readVersion(cluster.repository, version);
    const owners: Record<string, string> = {};
    for await (const batch of readEntries(cluster.repository, root))
      for (const { path, mode, uid, gid } of batch) owners[textOf(path)] = `${mode.toString(8)} ${uid}:${gid}`;
    return owners;
  }

  it('can be written by each of them, and is kept with the owners of the dataset', async () => {
    onTestFailed(() => console.error(nodes.map(({ node }) => node.log()).join('\n')));
    const [here, there] = nodes as [(typeof nodes)[0], (typeof nodes)[0]];
    const parameters = { dataset: 'owned', autosave: 'off' };
    const { volumeId } = await makeVolume(here.client, here.kubelet, 'shared', inGroup(2000), { parameters });
    const before = await ownersOf(volumeId);
    expect(before).toMatchObject({ '': '700 7:8', deep: '700 7:8', one: '600 7:8' });

    const first = nodeVolume(here.kubelet, volumeId, inGroup(2000));
    const pod = await startVolume(here.client, first);
    as(1000, 2000, pod, 'echo more >> deep/two; mkdir made; echo of-one > made/file; mv deep/three made');
    // What this daemon made, another goes on with.
    await here.node.stop('SIGKILL');
    await here.node.start();
    as(1001, 2000, pod, 'echo again >> made/file; cat one > /dev/null');
    await here.client.call('NodeUnpublishVolume', first.unpublish('pod'));
    await here.client.call('NodeUnstageVolume', first.stage);
    const { 'deep/three': three, ...rest } = before;
    const expected: Record<string, string | undefined> = {
      ...rest,
      made: '775 1000:8',
      'made/file': '664 1000:8',
      'made/three': three,
    };
    expect(await ownersOf(volumeId)).toEqual(expected);

    const second = nodeVolume(there.kubelet, volumeId, inGroup(3000));
    const other = await startVolume(there.client, second);
    expect(() => as(1000, 2000, other, 'cat made/file')).toThrow(/Permission denied/);
    expect(as(1002, 3000, other, 'echo of-two >> made/file; cat made/file')).toBe('of-one\nagain\nof-two\n');
    as(1002, 3000, other, 'tail -c 5 deep/two > made/copy; rm one');
    await there.client.call('NodeUnpublishVolume', second.unpublish('pod'));
    await there.client.call('NodeUnstageVolume', second.stage);
    const { one: _one, ...left } = expected;
    expect(await ownersOf(volumeId)).toEqual({ ...left, 'made/copy': '664 1002:8' });
    await there.client.call('DeleteVolume', { volumeId });
    expect(nodes.flatMap(({ node }) => node.mounts())).toEqual([]);
  });
});
