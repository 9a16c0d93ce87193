import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createAsks } from '../../controller/asks.ts';
import { createNodeObserver } from '../../controller/nodes.ts';
import { startPlugin } from '../../csi/plugin.ts';
import { canMount } from '../support/privilege.ts';
import { type CsiClient, connectCsi, mountCapability } from './client.ts';
import { digests, endVolume, makeVolume, type NodeVolume, startVolume } from './node-volume.ts';
import { createPlugin, type TestPlugin } from './plugin.ts';

const writers = mountCapability('SINGLE_NODE_MULTI_WRITER');
const readers = mountCapability('MULTI_NODE_READER_ONLY');

/** How long a snapshot may take until it is ready, in milliseconds. */
const PATIENCE = 60_000;

interface SnapshotAnswer {
  readonly snapshotId: string;
  readonly readyToUse: boolean;
  readonly groupSnapshotId: string;
}

describe.skipIf(!canMount)('a workspace that a pod writes to', () => {
  let plugin: TestPlugin;
  let client: CsiClient;
  let source: string;

  beforeAll(async () => {
    plugin = await createPlugin();
    source = join(plugin.directory, 'source');
    mkdirSync(join(source, 'deep'), { recursive: true });
    for (let i = 0; i < 20; i++) writeFileSync(join(source, `deep/${i}.bin`), `${i} `.repeat(1000 + i * 10));
    await plugin.importDataset('numbers', source);
    await plugin.start();
    client = connectCsi(plugin.socket);
  });

  afterAll(async () => {
    client.close();
    await plugin.close();
  });

  /** What volumes and snapshots leave; where objects arrive is the hydrator's. */
  const leftovers = () => plugin.leftovers().filter((name) => !name.startsWith('incoming/'));
  const volume = (name: string, capability: object, changes: object = {}): Promise<NodeVolume> =>
    makeVolume(client, join(plugin.directory, 'kubelet'), name, capability, {
      parameters: { dataset: 'numbers', autosave: 'off' },
      ...changes,
    });
  const end = (one: NodeVolume, ...pods: string[]) => endVolume(client, one, ...pods);
  const ofSnapshot = (snapshotId: string) => ({ volumeContentSource: { snapshot: { snapshotId } } });
  const take = async (name: string, { volumeId }: NodeVolume): Promise<SnapshotAnswer> =>
    (await client.call('CreateSnapshot', { name, sourceVolumeId: volumeId })).snapshot;

  async function untilReady(snapshotId: string): Promise<void> {
    const end = Date.now() + PATIENCE;
    while (!(await client.call('GetSnapshot', { snapshotId })).snapshot.readyToUse) {
      if (Date.now() > end) throw new Error(`snapshot ${snapshotId} is not ready: ${plugin.log()}`);
      await sleep(100);
    }
  }

  /** What a pod does to its files: all that a change can be. @returns what it then has */
  function work(pod: string, round: string): ReturnType<typeof digests> {
    writeFileSync(join(pod, `made ${round}`), round.repeat(5000));
    appendFileSync(join(pod, 'deep/3.bin'), round);
    rmSync(join(pod, 'deep/5.bin'), { force: true });
    renameSync(join(pod, 'deep/7.bin'), join(pod, 'deep/seven'));
    renameSync(join(pod, 'deep/seven'), join(pod, 'deep/7.bin'));
    mkdirSync(join(pod, `new ${round}/below`), { recursive: true });
    writeFileSync(join(pod, `new ${round}/below/file`), round);
    symlinkSync('below/file', join(pod, `new ${round}/link`));
    return digests(pod);
  }

  /** What a volume of this source has, read-only and written on, each on this node. */
  async function contentOf(name: string, from: object): Promise<ReturnType<typeof digests>> {
    const [read, written] = [
      await volume(`${name}, read`, readers, { parameters: {}, ...from }),
      await volume(`${name}, written`, writers, from),
    ];
    const content = digests(await startVolume(client, read));
    const pod = await startVolume(client, written);
    expect(digests(pod)).toEqual(content);
    writeFileSync(join(pod, 'of its own'), 'x');
    expect(digests(read.targetOf('pod'))).toEqual(content);
    await end(read, 'pod');
    await end(written, 'pod');
    return content;
  }

  it('is kept by a snapshot as it was when the call answered, byte for byte', async () => {
    const one = await volume('snapshot', writers);
    const pod = await startVolume(client, one);
    const expected = [work(pod, 'one')];
    const first = await take('first', one);
    expected.push(work(pod, 'two'));
    const second = await take('second', one);
    work(pod, 'three');
    expect(await take('first', one)).toMatchObject({ snapshotId: first.snapshotId });
    for (const [i, { snapshotId }] of [first, second].entries()) {
      await untilReady(snapshotId);
      expect(await contentOf(`snapshot ${i}`, ofSnapshot(snapshotId)), `snapshot ${i}`).toEqual(expected[i]);
    }
    await end(one, 'pod');
    expect(await contentOf('snapshot of a deleted volume', ofSnapshot(first.snapshotId))).toEqual(expected[0]);
    for (const { snapshotId } of [first, second]) await client.call('DeleteSnapshot', { snapshotId });
  }, 120_000);

  it('is ready, also when the plugin was killed after the snapshot was cut', async () => {
    const one = await volume('killed', writers);
    const pod = await startVolume(client, one);
    writeFileSync(join(pod, 'large'), Buffer.alloc(32 * 2 ** 20, 'large '));
    const expected = work(pod, 'one');
    const { snapshotId } = await take('before the kill', one);
    await plugin.stop('SIGKILL');
    work(pod, 'two');
    await plugin.start();
    await untilReady(snapshotId);
    expect(await contentOf('killed', ofSnapshot(snapshotId))).toEqual(expected);
    await end(one, 'pod');
    await client.call('DeleteSnapshot', { snapshotId });
  }, 120_000);

  it('is cloned with all that was written before, though nothing of it was saved', async () => {
    const one = await volume('source', writers);
    const pod = await startVolume(client, one);
    const expected = work(pod, 'one');
    const source = { volumeContentSource: { volume: { volumeId: one.volumeId } } };
    expect(await contentOf('clone', source)).toEqual(expected);
    expect(digests(pod)).toEqual(expected);
    await end(one, 'pod');
  }, 120_000);

  it('is in a group with others as all of them were at one instant', async () => {
    const volumes = [await volume('group a', writers), await volume('group b', writers)];
    const pods = await Promise.all(volumes.map((each) => startVolume(client, each)));
    const files = pods.map((pod) => join(pod, 'counter'));
    // Each line is in the first before it is in the second.
    let lines = 0;
    let isWriting = true;
    const writing = (async () => {
      while (isWriting) {
        for (const file of files) appendFileSync(file, `${lines}\n`, { flush: true });
        lines += 1;
        await sleep(1);
      }
    })();
    await sleep(100);
    const { groupSnapshot } = await client.call('CreateVolumeGroupSnapshot', {
      name: 'group',
      sourceVolumeIds: volumes.map(({ volumeId }) => volumeId),
    });
    isWriting = false;
    await writing;
    const counts: number[] = [];
    for (const [i, { volumeId }] of volumes.entries()) {
      const member = groupSnapshot.snapshots.find(
        (each: { sourceVolumeId: string }) => each.sourceVolumeId === volumeId,
      );
      await untilReady(member.snapshotId);
      const restored = await volume(`restored ${i}`, readers, ofSnapshot(member.snapshotId));
      const pod = await startVolume(client, restored);
      const text = readFileSync(join(pod, 'counter'), 'utf8');
      counts.push(text.split('\n').length - 1);
      expect(text).toBe(Array.from({ length: counts[i]! }, (_, line) => `${line}\n`).join(''));
      await end(restored, 'pod');
    }
    const [a, b] = counts as [number, number];
    expect(a).toBeGreaterThan(0);
    expect(a === b || a === b + 1, `${a} lines in the first, ${b} in the second`).toBe(true);
    expect(a).toBeLessThanOrEqual(lines);
    const { groupSnapshotId } = groupSnapshot;
    expect((await client.call('GetVolumeGroupSnapshot', { groupSnapshotId })).groupSnapshot.readyToUse).toBe(true);
    await client.call('DeleteVolumeGroupSnapshot', groupSnapshot);
    for (const each of volumes) await end(each, 'pod');
  }, 120_000);

  it('is cut and cloned for a controller elsewhere, which asks its node through the repository', async () => {
    const { repository } = plugin;
    const server = await startPlugin({
      endpoint: `unix://${plugin.directory}/controller.sock`,
      version: '1',
      repository,
      controller: { nodes: createNodeObserver({ repository }), asks: createAsks({ repository }) },
      log: () => {},
    });
    const elsewhere = connectCsi(server.path);
    const one = await volume('elsewhere', writers);
    const pod = await startVolume(client, one);
    const expected = work(pod, 'one');
    const request = { name: 'elsewhere', sourceVolumeId: one.volumeId };
    const { snapshotId } = (await elsewhere.call('CreateSnapshot', request)).snapshot;
    const { volume: clone } = await elsewhere.call('CreateVolume', {
      name: 'clone elsewhere',
      volumeCapabilities: [readers],
      volumeContentSource: { volume: { volumeId: one.volumeId } },
    });
    work(pod, 'two');
    await untilReady(snapshotId);
    const from = { volumeContentSource: { volume: { volumeId: clone.volumeId } } };
    expect(await contentOf('of a clone made elsewhere', from)).toEqual(expected);
    expect(await contentOf('of a snapshot made elsewhere', ofSnapshot(snapshotId))).toEqual(expected);
    expect(await elsewhere.fail('DeleteVolume', one.stage)).toMatchObject({ code: status.FAILED_PRECONDITION });
    await end(one, 'pod');
    await elsewhere.call('DeleteVolume', clone);
    await elsewhere.call('DeleteSnapshot', { snapshotId });
    elsewhere.close();
    await server.close();
  }, 120_000);

  it('is found again with all that was in it when it is unstaged and staged', async () => {
    const one = await volume('unstaged', writers);
    const pod = await startVolume(client, one);
    const expected = work(pod, 'one');
    await client.call('NodeUnpublishVolume', one.unpublish('pod'));
    await client.call('NodeUnstageVolume', one.stage);
    const saved = (await client.call('ControllerGetVolume', one)).status.volumeCondition;
    expect(saved).toMatchObject({ abnormal: false, message: expect.stringMatching(/changes were saved last at/) });
    expect(
      await contentOf('of what was unstaged', { volumeContentSource: { volume: { volumeId: one.volumeId } } }),
    ).toEqual(expected);
    await startVolume(client, one);
    expect(digests(pod)).toEqual(expected);
    await end(one, 'pod');
  }, 120_000);

  it('is kept as a branch when it is deleted, where that is asked for, and by another setting is not', async () => {
    const [kept, dropped] = [
      await volume('kept', writers, { parameters: { dataset: 'numbers', retention: 'keep' } }),
      await volume('dropped', writers, { parameters: { dataset: 'numbers', retention: 'keep' } }),
    ];
    const expected = work(await startVolume(client, kept), 'one');
    await startVolume(client, dropped);
    const mutableParameters = { retention: 'drop' };
    await client.call('ControllerModifyVolume', { volumeId: dropped.volumeId, mutableParameters });
    await end(kept, 'pod');
    await end(dropped, 'pod');
    const read = await volume('read', readers, { parameters: { dataset: 'numbers', version: 'volumes/kept' } });
    expect(digests(await startVolume(client, read))).toEqual(expected);
    await end(read, 'pod');
    const gone = { dataset: 'numbers', version: 'volumes/dropped' };
    expect(
      await client.fail('CreateVolume', { name: 'gone', volumeCapabilities: [readers], parameters: gone }),
    ).toMatchObject({ code: status.NOT_FOUND });
  }, 120_000);

  it('leaves nothing behind', async () => {
    // A clone goes after its snapshot is ready.
    await expect.poll(leftovers, { timeout: PATIENCE }).toEqual([]);
    expect([...plugin.workspaces(), ...plugin.records()]).toEqual([]);
  });
});
