import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readVolume } from '../../controller/volumes.ts';
import { UMOUNT, umount } from '../../system/calls.ts';
import { canMount } from '../support/privilege.ts';
import { type CsiClient, connectCsi, mountCapability } from './client.ts';
import { digests, endVolume, makeVolume, type NodeVolume, nodeVolume, startVolume } from './node-volume.ts';
import { createPlugin, type TestPlugin } from './plugin.ts';

const MIB = 2 ** 20;
const writers = mountCapability('SINGLE_NODE_MULTI_WRITER');
const readers = mountCapability('MULTI_NODE_READER_ONLY');
const inGroup = (group: string) => mountCapability('MULTI_NODE_READER_ONLY', { volumeMountGroup: group });

describe.skipIf(!canMount)('on a node', () => {
  let plugin: TestPlugin;
  let client: CsiClient;
  let source: string;
  let first: string;

  beforeAll(async () => {
    plugin = await createPlugin();
    source = join(plugin.directory, 'source');
    mkdirSync(join(source, 'deep'), { recursive: true });
    for (let i = 0; i < 20; i++) writeFileSync(join(source, `deep/${i}.bin`), `${i} `.repeat(1000 + i * 10));
    writeFileSync(join(source, 'secret.txt'), 'for its owner', { mode: 0o600 });
    first = await plugin.importDataset('numbers', source);
    await plugin.start();
    client = connectCsi(plugin.socket);
  });

  afterAll(async () => {
    const left = [...leftovers(), ...plugin.workspaces(), ...plugin.records()];
    client.close();
    await plugin.close();
    expect(left).toEqual([]);
  });

  /** What volumes leave; where objects arrive is the hydrator's. */
  const leftovers = () => plugin.leftovers().filter((name) => !name.startsWith('incoming/'));
  const kubelet = () => join(plugin.directory, 'kubelet');
  const volume = (name: string, capability: object, changes: object = {}): Promise<NodeVolume> =>
    makeVolume(client, kubelet(), name, capability, { parameters: { dataset: 'numbers' }, ...changes });
  const end = (one: NodeVolume, ...pods: string[]) => endVolume(client, one, ...pods);
  const statsOf = (volumeId: string, volumePath: string) => client.call('NodeGetVolumeStats', { volumeId, volumePath });
  const healthOf = async (volumeId: string) =>
    (await client.call('NodeGetVolumeHealth', { volumeId })).volumeHealth.healthStatuses;

  describe('a workspace that is expanded', () => {
    it('has more room at once, with all that was in it, and keeps it', async () => {
      const one = await volume('expanded', writers, { capacityRange: { requiredBytes: 400 * MIB } });
      const pod = await startVolume(client, one);
      writeFileSync(join(pod, 'written'), Buffer.alloc(50 * MIB, 'w'));
      const expected = digests(pod);
      const roomOf = () => statfsSync(pod).blocks * statfsSync(pod).bsize;
      const before = roomOf();
      const expansion = { volumeId: one.volumeId, volumePath: pod, capacityRange: { requiredBytes: 800 * MIB } };

      expect(await client.fail('NodeExpandVolume', expansion)).toMatchObject({
        code: status.OUT_OF_RANGE,
        details: expect.stringMatching(/ControllerExpandVolume first/),
      });
      await client.call('ControllerExpandVolume', expansion);
      expect(roomOf()).toBe(before);
      for (const volumePath of [pod, pod, one.stagingTargetPath])
        expect((await client.call('NodeExpandVolume', { ...expansion, volumePath })).capacityBytes).toBe(
          String(800 * MIB),
        );
      expect(roomOf()).toBeGreaterThan(before + 300 * MIB);
      expect(Number((await statsOf(one.volumeId, pod)).usage[0].total)).toBe(roomOf());
      expect(digests(pod)).toEqual(expected);

      await client.call('NodeUnpublishVolume', one.unpublish('pod'));
      await client.call('NodeUnstageVolume', one.stage);
      await startVolume(client, one);
      expect(roomOf()).toBeGreaterThan(before + 300 * MIB);
      expect(digests(pod)).toEqual(expected);
      await end(one, 'pod');
    });

    it('while it is on no node has its room when it is staged', async () => {
      const one = await volume('expanded early', writers, { capacityRange: { requiredBytes: 300 * MIB } });
      await client.call('ControllerExpandVolume', {
        volumeId: one.volumeId,
        capacityRange: { requiredBytes: 600 * MIB },
      });
      const pod = await startVolume(client, one);
      expect(statfsSync(pod).blocks * statfsSync(pod).bsize).toBeGreaterThan(500 * MIB);
      await end(one, 'pod');
    });

    it('is one, and at that path', async () => {
      const one = await volume('not expanded', readers);
      const pod = await startVolume(client, one);
      const request = { volumeId: one.volumeId, volumePath: pod };
      const { capacityBytes } = await readVolume(plugin.repository, one.volumeId);
      expect(await client.call('NodeExpandVolume', request)).toEqual({ capacityBytes: String(capacityBytes) });
      expect(await client.fail('NodeExpandVolume', { ...request, volumePath: '/nowhere' })).toMatchObject({
        code: status.NOT_FOUND,
      });
      expect(await client.fail('NodeExpandVolume', { ...request, volumeCapability: writers })).toMatchObject({
        code: status.INVALID_ARGUMENT,
      });
      await end(one, 'pod');
    });
  });

  describe('the condition of a volume', () => {
    it('is that it is well, and which version is mounted', async () => {
      const one = await volume('well', readers);
      const pod = await startVolume(client, one);
      expect((await statsOf(one.volumeId, pod)).volumeCondition).toEqual({
        abnormal: false,
        message: expect.stringContaining(first.slice(0, 12)),
      });
      expect(await healthOf(one.volumeId)).toEqual([]);
      await end(one, 'pod');
      expect(await client.fail('NodeGetVolumeHealth', { volumeId: one.volumeId })).toMatchObject({
        code: status.NOT_FOUND,
      });
    });

    it('tells of a mount that somebody took away, until the calls are made again', async () => {
      const one = await volume('unmounted', readers);
      const pod = await startVolume(client, one);
      umount(pod, UMOUNT.detach);
      expect(await healthOf(one.volumeId)).toEqual([
        { status: 'INACCESSIBLE', reason: 'NotMounted', message: expect.stringContaining(pod) },
      ]);
      expect((await statsOf(one.volumeId, one.stagingTargetPath)).volumeCondition).toMatchObject({ abnormal: true });
      await startVolume(client, one);
      expect(await healthOf(one.volumeId)).toEqual([]);
      await end(one, 'pod');
    });

    it('of the storage as a whole is that nothing is wrong', async () => {
      expect(await client.call('NodeGetStorageHealth')).toEqual({ backendHealth: [] });
    });
  });

  describe('a pinned volume of another version', () => {
    it('is what the next stage mounts, while pods keep what they have', async () => {
      const one = await volume('modified', readers);
      const pod = await startVolume(client, one);
      const old = digests(source);
      const edited = join(source, 'deep/7.bin');
      const text = readFileSync(edited);
      writeFileSync(edited, 'another version');
      const second = await plugin.importDataset('numbers', source);
      await client.call('ControllerModifyVolume', { volumeId: one.volumeId, mutableParameters: { version: second } });
      await client.call('NodeStageVolume', one.stage);
      await client.call('NodePublishVolume', one.publish('pod-2'));
      for (const path of [pod, one.targetOf('pod-2')]) expect(digests(path)).toEqual(old);
      expect((await statsOf(one.volumeId, pod)).volumeCondition.message).toContain(first.slice(0, 12));
      const { status: state } = await client.call('ControllerGetVolume', one);
      expect(state.volumeCondition.message).toContain(second.slice(0, 12));

      for (const each of ['pod', 'pod-2']) await client.call('NodeUnpublishVolume', one.unpublish(each));
      await client.call('NodeUnstageVolume', one.stage);
      await startVolume(client, one);
      expect(digests(pod)).toEqual(digests(source));
      expect((await statsOf(one.volumeId, pod)).volumeCondition.message).toContain(second.slice(0, 12));
      await end(one, 'pod');
      writeFileSync(edited, text);
      await plugin.importDataset('numbers', source);
    });

    it('that follows a branch has what the branch has whenever it is staged, and nothing else when that is repeated', async () => {
      const from = join(plugin.directory, 'followed');
      mkdirSync(from);
      writeFileSync(join(from, 'text'), 'one');
      const one = await plugin.importDataset('followed', from);
      const following = await volume('follows', readers, { parameters: { dataset: 'followed', follow: 'true' } });
      const pod = await startVolume(client, following);
      writeFileSync(join(from, 'text'), 'two');
      const two = await plugin.importDataset('followed', from);
      await startVolume(client, following);
      expect(readFileSync(join(pod, 'text'), 'utf8')).toBe('one');
      expect((await readVolume(plugin.repository, following.volumeId)).version).toBe(one);
      await client.call('NodeUnpublishVolume', following.unpublish('pod'));
      await client.call('NodeUnstageVolume', following.stage);
      await startVolume(client, following);
      expect(readFileSync(join(pod, 'text'), 'utf8')).toBe('two');
      expect((await readVolume(plugin.repository, following.volumeId)).version).toBe(two);
      await end(following, 'pod');
    });
  });

  it('what is staged is published and unpublished while its repository is away', async () => {
    const one = await volume('away', readers);
    const pod = await startVolume(client, one);
    const expected = digests(pod);
    const { location } = plugin.repository;
    renameSync(location, `${location}-away`);
    try {
      await client.call('NodePublishVolume', one.publish('pod-2'));
      expect(digests(one.targetOf('pod-2'))).toEqual(expected);
      expect((await statsOf(one.volumeId, pod)).usage).toHaveLength(2);
      await client.call('NodeUnpublishVolume', one.unpublish('pod-2'));
      await client.call('NodeUnpublishVolume', one.unpublish('pod'));
      await client.call('NodeUnstageVolume', one.stage);
    } finally {
      renameSync(`${location}-away`, location);
    }
    await end(one);
  });

  it('there is the room that its disk has', async () => {
    const { bavail, bsize } = statfsSync(join(plugin.directory, 'cache'));
    const { availableCapacity } = await client.call('GetCapacity', { volumeCapabilities: [writers] });
    // Others fill the disk and empty it meanwhile, and a cache leaves some of it free.
    expect(Number(availableCapacity)).toBeGreaterThan((bavail * bsize) / 4);
    expect(Number(availableCapacity)).toBeLessThan(bavail * bsize * 4);
  });

  describe('a volume for a group', () => {
    it('has its files in that group, which may read what their owner may', async () => {
      const one = nodeVolume(kubelet(), (await volume('grouped', readers)).volumeId, inGroup('2345'));
      const pod = await startVolume(client, one);
      for (const path of ['', 'deep', 'deep/3.bin', 'secret.txt']) {
        const { gid, mode } = statSync(join(pod, path));
        expect(gid, path).toBe(2345);
        expect((mode & 0o070) >> 3, path).toBe((mode & 0o700) >> 6);
      }
      expect(digests(pod)).toEqual(digests(source));
      await client.call('NodePublishVolume', one.publish('pod-2'));
      await client.call('NodePublishVolume', one.publish('pod-3', { volumeCapability: readers }));
      expect(
        await client.fail('NodePublishVolume', one.publish('pod-4', { volumeCapability: inGroup('99') })),
      ).toMatchObject({ code: status.FAILED_PRECONDITION, details: expect.stringMatching(/2345.*99/) });
      expect(await client.fail('NodeStageVolume', { ...one.stage, volumeCapability: inGroup('99') })).toMatchObject({
        code: status.ALREADY_EXISTS,
      });
      await end(one, 'pod', 'pod-2', 'pod-3');
    });

    it('and one without have one version on one node, each as its pods want it', async () => {
      const grouped = nodeVolume(kubelet(), (await volume('grouped too', readers)).volumeId, inGroup('2345'));
      const plain = await volume('plain', readers);
      const [one, other] = [await startVolume(client, grouped), await startVolume(client, plain)];
      expect(statSync(join(one, 'secret.txt')).gid).toBe(2345);
      expect(statSync(join(other, 'secret.txt')).gid).toBe(statSync(join(source, 'secret.txt')).gid);
      expect(statSync(join(other, 'secret.txt')).mode & 0o777).toBe(0o600);
      await end(grouped, 'pod');
      await end(plain, 'pod');
    });

    it('has new files in it too, and its snapshot has the owners that the dataset has', async () => {
      const { volumeId } = await volume('grouped workspace', writers);
      const grouped = mountCapability('SINGLE_NODE_MULTI_WRITER', { volumeMountGroup: '2345' });
      const one = nodeVolume(kubelet(), volumeId, grouped);
      const pod = await startVolume(client, one);
      mkdirSync(join(pod, 'made'));
      writeFileSync(join(pod, 'made/new'), 'new');
      writeFileSync(join(pod, 'deep/3.bin'), 'changed');
      for (const path of ['made', 'made/new', 'deep/3.bin', 'secret.txt'])
        expect(statSync(join(pod, path)).gid, path).toBe(2345);
      await client.call('NodeUnpublishVolume', one.unpublish('pod'));
      await client.call('NodeUnstageVolume', one.stage);
      const volumeContentSource = { volume: { volumeId } };
      const plain = await volume('of a grouped workspace', readers, { volumeContentSource });
      const read = await startVolume(client, plain);
      expect(readFileSync(join(read, 'deep/3.bin'), 'utf8')).toBe('changed');
      expect(readFileSync(join(read, 'made/new'), 'utf8')).toBe('new');
      for (const path of ['deep/3.bin', 'secret.txt'])
        expect(statSync(join(read, path)).gid, path).toBe(statSync(join(source, path)).gid);
      await end(plain, 'pod');
      await end(one);
    });

    it('is refused where the group is no number', async () => {
      const one = await volume('no group', readers);
      expect(await client.fail('NodeStageVolume', { ...one.stage, volumeCapability: inGroup('staff') })).toMatchObject({
        code: status.INVALID_ARGUMENT,
        details: expect.stringMatching(/volume_mount_group is "staff"/),
      });
      await end(one);
    });

    it('shows the owners and permissions that its parameters say', async () => {
      const one = await volume('owned', readers, {
        parameters: { dataset: 'numbers', uid: '1234', gid: '4321', mode: '0750' },
      });
      const pod = await startVolume(client, one);
      for (const [path, mode] of [
        ['', 0o750],
        ['deep', 0o750],
        ['secret.txt', 0o640],
      ] as const) {
        const { uid, gid, mode: shown } = statSync(join(pod, path));
        expect([uid, gid, shown & 0o777], path).toEqual([1234, 4321, mode]);
      }
      await end(one, 'pod');
    });
  });

  describe('an ephemeral volume', () => {
    /** As a kubelet asks for it, for a pod whose volume is written in its own specification. */
    function ephemeral(name: string, attributes: Record<string, string>) {
      const volumeId = `csi-${name}`.padEnd(68, '0');
      const targetPath = join(kubelet(), volumeId, 'mount');
      mkdirSync(join(kubelet(), volumeId), { recursive: true });
      return {
        targetPath,
        publish: {
          volumeId,
          targetPath,
          volumeCapability: mountCapability('SINGLE_NODE_WRITER'),
          volumeContext: {
            'csi.storage.k8s.io/ephemeral': 'true',
            'csi.storage.k8s.io/pod.name': 'trainer-0',
            'csi.storage.k8s.io/pod.namespace': 'research',
            'csi.storage.k8s.io/pod.uid': '4c6b0b4e-0000-4000-8000-000000000000',
            'csi.storage.k8s.io/serviceAccount.name': 'trainer',
            ...attributes,
          },
        },
        unpublish: { volumeId, targetPath },
      };
    }

    it('has its dataset, read-only, until its pod ends, and stays the version that it is', async () => {
      const one = ephemeral('read', { dataset: 'numbers' });
      await client.call('NodePublishVolume', one.publish);
      const expected = digests(source);
      expect(digests(one.targetPath)).toEqual(expected);
      expect(() => writeFileSync(join(one.targetPath, 'new'), '')).toThrow(/EROFS/);
      const from = join(source, 'added');
      writeFileSync(from, 'later');
      await plugin.importDataset('numbers', source);
      await client.call('NodePublishVolume', one.publish);
      expect(digests(one.targetPath)).toEqual(expected);
      const { usage, volumeCondition } = await statsOf(one.publish.volumeId, one.targetPath);
      expect(Number(usage[0].used)).toBeGreaterThan(0);
      expect(volumeCondition.abnormal).toBe(false);
      rmSync(from);
      await plugin.importDataset('numbers', source);
      for (let time = 0; time < 2; time++) await client.call('NodeUnpublishVolume', one.unpublish);
      expect(existsSync(one.targetPath)).toBe(false);
      expect(leftovers()).toEqual([]);
    });

    it('that is writable has room of its own, and nothing of it is kept', async () => {
      const one = ephemeral('write', { dataset: 'numbers', writable: 'true', size: '300M' });
      await client.call('NodePublishVolume', one.publish);
      expect(digests(one.targetPath)).toEqual(digests(source));
      writeFileSync(join(one.targetPath, 'scratch'), 'of this pod');
      await client.call('NodePublishVolume', one.publish);
      expect(readFileSync(join(one.targetPath, 'scratch'), 'utf8')).toBe('of this pod');
      const { blocks, bsize } = statfsSync(one.targetPath);
      expect(blocks * bsize).toBeLessThanOrEqual(300 * MIB);
      await client.call('NodeUnpublishVolume', one.unpublish);
      expect([...leftovers(), ...plugin.workspaces(), ...plugin.records()]).toEqual([]);
      await client.call('NodePublishVolume', one.publish);
      expect(existsSync(join(one.targetPath, 'scratch'))).toBe(false);
      await client.call('NodeUnpublishVolume', one.unpublish);
    });

    it('goes on when the plugin is started again', async () => {
      const one = ephemeral('restarted', { dataset: 'numbers', writable: 'true' });
      await client.call('NodePublishVolume', one.publish);
      writeFileSync(join(one.targetPath, 'scratch'), 'kept');
      await plugin.stop('SIGKILL');
      await plugin.start();
      await client.call('NodePublishVolume', one.publish);
      expect(readFileSync(join(one.targetPath, 'scratch'), 'utf8')).toBe('kept');
      await client.call('NodeUnpublishVolume', one.unpublish);
    });

    it('is as its pod asks: for a group, or read-only though it might be written', async () => {
      const one = ephemeral('asked', { dataset: 'numbers', writable: 'true' });
      const volumeCapability = mountCapability('SINGLE_NODE_WRITER', { volumeMountGroup: '2345' });
      await client.call('NodePublishVolume', { ...one.publish, volumeCapability, readonly: true });
      expect(statSync(join(one.targetPath, 'secret.txt')).gid).toBe(2345);
      expect(() => chmodSync(join(one.targetPath, 'secret.txt'), 0o644)).toThrow(/EROFS/);
      await client.call('NodeUnpublishVolume', one.unpublish);
    });

    it.each([
      ['no dataset', {}, status.INVALID_ARGUMENT, /"dataset": it is missing/],
      ['a dataset that is not there', { dataset: 'number' }, status.NOT_FOUND, /numbers/],
      [
        'an attribute that there is none',
        { dataset: 'numbers', colour: 'red' },
        status.INVALID_ARGUMENT,
        /"colour".*writable.*size/,
      ],
      [
        'what it cannot have',
        { dataset: 'numbers', autosave: '10s' },
        status.INVALID_ARGUMENT,
        /"autosave".*nothing of it is saved/,
      ],
      ['a size to read', { dataset: 'numbers', size: '1G' }, status.INVALID_ARGUMENT, /"size": it needs writable/],
    ] as [string, Record<string, string>, status, RegExp][])(
      'is refused with %s',
      async (_, attributes, code, details) => {
        const one = ephemeral('refused', attributes);
        expect(await client.fail('NodePublishVolume', one.publish)).toEqual({
          code,
          details: expect.stringMatching(details),
        });
        expect(leftovers()).toEqual([]);
      },
    );
  });
});
