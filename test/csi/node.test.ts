import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sha256 } from '../../dataset/digest.ts';
import { objectsOf, PREFETCHES, prefetchSource, untilCached } from '../support/prefetch.ts';
import { canMount } from '../support/privilege.ts';
import { type CsiClient, connectCsi, mountCapability } from './client.ts';
import { digests, endVolume, makeVolume, type NodeVolume, sizeOf } from './node-volume.ts';
import { createPlugin, type TestPlugin } from './plugin.ts';

const MIB = 2 ** 20;

const oneWriter = mountCapability('SINGLE_NODE_SINGLE_WRITER');
const writers = mountCapability('SINGLE_NODE_MULTI_WRITER');
const readers = mountCapability('MULTI_NODE_READER_ONLY');

describe.skipIf(!canMount)('a node', () => {
  let plugin: TestPlugin;
  let client: CsiClient;
  let source: string;

  beforeAll(async () => {
    plugin = await createPlugin();
    source = join(plugin.directory, 'source');
    mkdirSync(join(source, 'deep/er'), { recursive: true });
    for (let i = 0; i < 200; i++) writeFileSync(join(source, `deep/er/${i}.bin`), `${i} `.repeat(1000 + i * 10));
    writeFileSync(join(source, 'tiny.txt'), 'tiny', { mode: 0o640 });
    await plugin.importDataset('numbers', source);
    await plugin.start();
    client = connectCsi(plugin.socket);
  });

  afterAll(async () => {
    const left = [...plugin.mounts(), ...plugin.workspaces(), ...plugin.records()];
    client.close();
    await plugin.close();
    expect(left).toEqual([]);
  });

  const volume = (name: string, capability: object, changes: object = {}) =>
    makeVolume(client, join(plugin.directory, 'kubelet'), name, capability, {
      parameters: { dataset: 'numbers' },
      ...changes,
    });
  const end = (one: NodeVolume, ...pods: string[]) => endVolume(client, one, ...pods);

  it('says who it is and what it does', async () => {
    expect(await client.call('NodeGetInfo')).toMatchObject({ nodeId: 'a-node', accessibleTopology: null });
    const { capabilities } = await client.call('NodeGetCapabilities');
    expect(capabilities.map(({ rpc }: { rpc: { type: string } }) => rpc.type)).toEqual([
      'STAGE_UNSTAGE_VOLUME',
      'GET_VOLUME_STATS',
      'EXPAND_VOLUME',
      'SINGLE_NODE_MULTI_WRITER',
      'VOLUME_MOUNT_GROUP',
      'VOLUME_CONDITION',
      'GET_VOLUME_HEALTH',
      'GET_STORAGE_HEALTH',
    ]);
  });

  it('gives pods the files of a pinned volume, byte for byte, and lets none write; every call is made twice', async () => {
    const pinned = await volume('pinned', readers);
    const twice = async (method: string, request: object) => {
      await client.call(method, request);
      await client.call(method, request);
    };
    await twice('NodeStageVolume', pinned.stage);
    await twice('NodePublishVolume', pinned.publish('pod-1'));
    await twice('NodePublishVolume', pinned.publish('pod-2'));
    for (const pod of ['pod-1', 'pod-2']) {
      expect(digests(pinned.targetOf(pod))).toEqual(digests(source));
      expect(statSync(join(pinned.targetOf(pod), 'tiny.txt')).mode & 0o777).toBe(0o640);
      expect(() => writeFileSync(join(pinned.targetOf(pod), 'new'), '')).toThrow(/EROFS/);
    }
    const { usage } = await client.call('NodeGetVolumeStats', {
      volumeId: pinned.volumeId,
      volumePath: pinned.targetOf('pod-1'),
    });
    expect(usage.map(({ unit }: { unit: string }) => unit)).toEqual(['BYTES', 'INODES']);
    expect(Number(usage[0].used)).toBe(sizeOf(source));

    await twice('NodeUnpublishVolume', pinned.unpublish('pod-1'));
    expect(existsSync(pinned.targetOf('pod-1'))).toBe(false);
    expect(digests(pinned.targetOf('pod-2'))).toEqual(digests(source));
    await twice('NodeUnpublishVolume', pinned.unpublish('pod-2'));
    await twice('NodeUnstageVolume', pinned.stage);
    expect(readdirSync(pinned.stagingTargetPath)).toEqual([]);
    await twice('DeleteVolume', pinned.stage);
  });

  it('fetches what the parameter prefetch says when a volume is staged, and no other file', async () => {
    const cache = join(plugin.directory, 'cache');
    const before = new Set(objectsOf(cache));
    const staged: NodeVolume[] = [];
    const wanted: string[] = [];
    for (const [at, { what, folders }] of PREFETCHES.entries()) {
      const from = join(plugin.directory, `prefetch-${at}`);
      const digests = prefetchSource(from, at);
      wanted.push(...folders.flatMap((folder) => digests.get(folder)!));
      await plugin.importDataset(`prefetch-${at}`, from);
      const one = await volume(`prefetch ${at}`, readers, {
        parameters: { dataset: `prefetch-${at}`, prefetch: what },
      });
      await client.call('NodeStageVolume', one.stage);
      staged.push(one);
    }
    await untilCached(cache, wanted);
    expect(
      objectsOf(cache)
        .filter((id) => !before.has(id))
        .sort(),
    ).toEqual(wanted.sort());
    for (const one of staged) {
      await client.call('NodeUnstageVolume', one.stage);
      await client.call('DeleteVolume', one.stage);
    }
  });

  it('keeps what pods write into a workspace, for all of its pods and past its unstaging', async () => {
    const shared = await volume('shared', writers, { capacityRange: { requiredBytes: String(400 * MIB) } });
    await client.call('NodeStageVolume', shared.stage);
    await client.call('NodePublishVolume', shared.publish('pod-1'));
    await client.call('NodePublishVolume', shared.publish('pod-2'));
    writeFileSync(join(shared.targetOf('pod-1'), 'result.txt'), 'forty-two');
    appendFileSync(join(shared.targetOf('pod-1'), 'tiny.txt'), ' but growing');
    rmSync(join(shared.targetOf('pod-1'), 'deep/er/7.bin'));
    const expected = digests(shared.targetOf('pod-2'));
    expect(expected['result.txt']).toBe(sha256('forty-two'));
    expect(expected['tiny.txt']).toBe(sha256('tiny but growing'));
    expect(expected['deep/er/7.bin']).toBeUndefined();
    expect(Object.keys(expected)).toHaveLength(Object.keys(digests(source)).length);

    for (const pod of ['pod-1', 'pod-2']) await client.call('NodeUnpublishVolume', shared.unpublish(pod));
    await client.call('NodeUnstageVolume', shared.stage);
    await client.call('NodeStageVolume', shared.stage);
    await client.call('NodePublishVolume', shared.publish('pod-3'));
    expect(digests(shared.targetOf('pod-3'))).toEqual(expected);
    await end(shared, 'pod-3');
    expect(digests(source)['tiny.txt']).toBe(sha256('tiny'));
  });

  it('gives a workspace the room that was asked for, and no more', async () => {
    const small = await volume('small', oneWriter, { capacityRange: { requiredBytes: String(300 * MIB) } });
    await client.call('NodeStageVolume', small.stage);
    await client.call('NodePublishVolume', small.publish('pod'));
    const stats = { volumeId: small.volumeId, volumePath: small.targetOf('pod') };
    const { usage } = await client.call('NodeGetVolumeStats', stats);
    const { blocks, bsize } = statfsSync(small.targetOf('pod'));
    expect(Number(usage[0].total)).toBe(blocks * bsize);
    expect(blocks * bsize).toBeGreaterThan(200 * MIB);
    expect(blocks * bsize).toBeLessThanOrEqual(300 * MIB);
    expect(() => {
      for (let i = 0; i < 10; i++) writeFileSync(join(small.targetOf('pod'), `${i}`), Buffer.alloc(32 * MIB, 1));
    }).toThrow(/ENOSPC/);
    const full = await client.call('NodeGetVolumeStats', stats);
    expect(Number(full.usage[0].used)).toBeGreaterThan(Number(usage[0].used) + 100 * MIB);
    await end(small, 'pod');
  });

  it('gives nothing of a deleted workspace to the next one of its name', async () => {
    const first = await volume('reused', writers);
    await client.call('NodeStageVolume', first.stage);
    await client.call('NodePublishVolume', first.publish('pod'));
    writeFileSync(join(first.targetOf('pod'), 'secret.txt'), 'of the first');
    await end(first, 'pod');
    const second = await volume('reused', writers);
    await client.call('NodeStageVolume', second.stage);
    await client.call('NodePublishVolume', second.publish('pod'));
    expect(digests(second.targetOf('pod'))).toEqual(digests(source));
    await end(second, 'pod');
  });

  it('makes a workspace read-only where the pod asks for it', async () => {
    const half = await volume('half', writers);
    await client.call('NodeStageVolume', half.stage);
    await client.call('NodePublishVolume', half.publish('reads', { readonly: true }));
    const byOption = { volumeCapability: mountCapability('SINGLE_NODE_MULTI_WRITER', { mountFlags: ['ro'] }) };
    await client.call('NodePublishVolume', half.publish('reads-too', byOption));
    await client.call('NodePublishVolume', half.publish('writes'));
    writeFileSync(join(half.targetOf('writes'), 'x'), 'x');
    for (const pod of ['reads', 'reads-too']) {
      expect(readFileSync(join(half.targetOf(pod), 'x'), 'utf8')).toBe('x');
      expect(() => writeFileSync(join(half.targetOf(pod), 'y'), '')).toThrow(/EROFS/);
    }
    expect(await client.fail('NodePublishVolume', half.publish('writes', { readonly: true }))).toMatchObject({
      code: status.ALREADY_EXISTS,
    });
    await client.call('NodeUnpublishVolume', half.unpublish('reads'));
    await client.call('NodeUnpublishVolume', half.unpublish('reads-too'));
    await end(half, 'writes');
  });

  it('lets one pod at a time have the volume of a single writer', async () => {
    const single = await volume('single', oneWriter);
    await client.call('NodeStageVolume', single.stage);
    await client.call('NodePublishVolume', single.publish('pod-1'));
    expect(await client.fail('NodePublishVolume', single.publish('pod-2'))).toMatchObject({
      code: status.FAILED_PRECONDITION,
      details: expect.stringContaining(single.targetOf('pod-1')),
    });
    await client.call('NodeUnpublishVolume', single.unpublish('pod-1'));
    await client.call('NodePublishVolume', single.publish('pod-2'));
    await end(single, 'pod-2');
  });

  it('refuses calls out of their order, and says which one is missing', async () => {
    const early = await volume('early', writers);
    expect(await client.fail('NodePublishVolume', early.publish('pod'))).toMatchObject({
      code: status.NOT_FOUND,
      details: expect.stringMatching(/stage it first/),
    });
    expect(await client.fail('NodePublishVolume', early.publish('pod', { stagingTargetPath: '' }))).toMatchObject({
      code: status.FAILED_PRECONDITION,
      details: expect.stringMatching(/NodeStageVolume first/),
    });
    await client.call('NodeStageVolume', early.stage);
    await client.call('NodePublishVolume', early.publish('pod'));
    expect(await client.fail('NodeUnstageVolume', early.stage)).toMatchObject({ code: status.FAILED_PRECONDITION });
    expect(await client.fail('DeleteVolume', early.stage)).toMatchObject({ code: status.FAILED_PRECONDITION });
    expect(digests(early.targetOf('pod'))).toEqual(digests(source));
    await end(early, 'pod');
    expect(await client.fail('NodeStageVolume', early.stage)).toMatchObject({ code: status.NOT_FOUND });
  });

  it('refuses a capability that the volume does not have', async () => {
    const pinned = await volume('no writers', readers);
    expect(await client.fail('NodeStageVolume', { ...pinned.stage, volumeCapability: writers })).toMatchObject({
      code: status.FAILED_PRECONDITION,
      details: expect.stringMatching(/read-only/),
    });
    await client.call('NodeStageVolume', pinned.stage);
    expect(
      await client.fail('NodePublishVolume', pinned.publish('pod', { volumeCapability: oneWriter })),
    ).toMatchObject({ code: status.FAILED_PRECONDITION });
    await client.call('NodeUnstageVolume', pinned.stage);
    await client.call('DeleteVolume', pinned.stage);
  });

  it.each([
    ['NodeStageVolume', { volumeId: 'v' }, /staging_target_path is missing/],
    ['NodeStageVolume', { volumeId: 'v', stagingTargetPath: 'some/path' }, /absolute path/],
    ['NodeStageVolume', { volumeId: 'v', stagingTargetPath: '/a' }, /volume_capability is missing/],
    ['NodeUnstageVolume', { stagingTargetPath: '/a' }, /volume_id is missing/],
    ['NodePublishVolume', { volumeId: 'v', targetPath: '/a' }, /volume_capability is missing/],
    ['NodeUnpublishVolume', { volumeId: 'v', targetPath: '../a' }, /absolute path/],
    ['NodeGetVolumeStats', { volumeId: 'v' }, /volume_path is missing/],
    ['NodeGetVolumeHealth', {}, /volume_id is missing/],
    ['NodeExpandVolume', { volumePath: '/a' }, /volume_id is missing/],
    ['NodeExpandVolume', { volumeId: 'v' }, /volume_path is missing/],
    ['NodeExpandVolume', { volumeId: 'v', volumePath: '/a', capacityRange: { requiredBytes: -1 } }, /required_bytes/],
  ])('refuses %s of %j', async (method, request, message) => {
    expect(await client.fail(method, request)).toEqual({
      code: status.INVALID_ARGUMENT,
      details: expect.stringMatching(message),
    });
  });

  it('takes a volume that nobody knows for one that is gone', async () => {
    const unknown = { volumeId: 'fake', stagingTargetPath: '/nowhere', volumeCapability: writers };
    expect(await client.fail('NodeStageVolume', unknown)).toMatchObject({ code: status.NOT_FOUND });
    expect(await client.fail('NodePublishVolume', { ...unknown, targetPath: '/nowhere/else' })).toMatchObject({
      code: status.NOT_FOUND,
    });
    for (const method of ['NodeGetVolumeStats', 'NodeGetVolumeHealth', 'NodeExpandVolume'])
      expect(await client.fail(method, { volumeId: 'fake', volumePath: '/' }), method).toMatchObject({
        code: status.NOT_FOUND,
      });
    await client.call('NodeUnpublishVolume', { volumeId: 'fake', targetPath: join(plugin.directory, 'never') });
    await client.call('NodeUnstageVolume', unknown);
  });

  it('stages and unstages many volumes side by side, and one volume one call at a time', async () => {
    const volumes = await Promise.all(
      Array.from({ length: 12 }, (_, i) => volume(`many ${i}`, i % 2 === 0 ? readers : writers)),
    );
    const calls = volumes.flatMap(({ stage }) => [
      client.call('NodeStageVolume', stage),
      client.call('NodeStageVolume', stage),
    ]);
    for (const result of await Promise.allSettled(calls))
      if (result.status === 'rejected') expect(result.reason.code).toBe(status.ABORTED);
    await Promise.all(volumes.map(({ publish }) => client.call('NodePublishVolume', publish('pod'))));
    for (const { targetOf } of volumes) expect(digests(targetOf('pod'))).toEqual(digests(source));
    await Promise.all(volumes.map((each) => end(each, 'pod')));
  });
});
