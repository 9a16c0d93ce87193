import { status } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startHeartbeat } from '../../controller/heartbeat.ts';
import { createLedger } from '../../controller/ledger.ts';
import { readVolume } from '../../controller/volumes.ts';
import { deleteBranch, moveBranch, readBranch } from '../../dataset/refs.ts';
import { mountCapability } from './client.ts';
import { type ControllerServer, startController } from './controller-server.ts';

const GIB = 2 ** 30;
const writer = mountCapability('SINGLE_NODE_WRITER');
const readers = mountCapability('MULTI_NODE_READER_ONLY');
const node = { node: 'node-7', instance: 'a' };

let server: ControllerServer;
let first: string;
let second: string;
const created: string[] = [];

beforeAll(async () => {
  server = await startController();
  first = await server.importBirds({ 'robin.txt': 'r'.repeat(1000) });
  second = await server.importBirds({ 'robin.txt': 'r'.repeat(1000), 'wren.txt': 'w'.repeat(2000) });
});
afterAll(() => server[Symbol.asyncDispose]());
afterEach(async () => {
  for (const volumeId of created.splice(0)) await call('DeleteVolume', { volumeId });
});

const call = (method: string, request: object = {}) => server.client.call(method, request);
const fail = (method: string, request: object = {}) => server.client.fail(method, request);

/** A volume that is gone after the test. @returns its id */
async function create(name: string, changes: object = {}): Promise<string> {
  const { volume } = await call('CreateVolume', {
    name,
    volumeCapabilities: [writer],
    parameters: { dataset: 'birds' },
    ...changes,
  });
  created.push(volume.volumeId);
  return volume.volumeId;
}
const pinned = (name: string, parameters: object = {}) =>
  create(name, { volumeCapabilities: [readers], parameters: { dataset: 'birds', ...parameters } });

const conditionOf = async (volumeId: string) =>
  (await call('ControllerGetVolume', { volumeId })).status.volumeCondition;
const reasonsOf = async (volumeId: string): Promise<string[]> => {
  const { volumeHealth } = await call('ControllerGetVolumeHealth', { volumeId });
  expect(volumeHealth.volumeId).toBe(volumeId);
  return volumeHealth.healthStatuses.map(({ reason }: { reason: string }) => reason);
};

describe('the controller', () => {
  it('says what it does', async () => {
    const { capabilities } = await call('ControllerGetCapabilities');
    expect(capabilities.map(({ rpc }: { rpc: { type: string } }) => rpc.type).sort()).toEqual([
      'CLONE_VOLUME',
      'CREATE_DELETE_SNAPSHOT',
      'CREATE_DELETE_VOLUME',
      'EXPAND_VOLUME',
      'GET_CAPACITY',
      'GET_SNAPSHOT',
      'GET_VOLUME',
      'GET_VOLUME_HEALTH',
      'LIST_SNAPSHOTS',
      'LIST_VOLUMES',
      'LIST_VOLUME_HEALTH',
      'MODIFY_VOLUME',
      'SINGLE_NODE_MULTI_WRITER',
      'VOLUME_CONDITION',
    ]);
  });

  it.each(['ControllerGetVolume', 'ControllerGetVolumeHealth', 'ControllerModifyVolume'])(
    '%s wants an id, and one that there is',
    async (method) => {
      expect(await fail(method)).toEqual({ code: status.INVALID_ARGUMENT, details: 'volume_id is missing' });
      expect(await fail(method, { volumeId: 'vol-none', mutableParameters: { no: 'such' } })).toEqual({
        code: status.NOT_FOUND,
        details: expect.stringMatching(/no volume "vol-none"/),
      });
    },
  );
});

describe('a volume', () => {
  it('is told of as it was created', async () => {
    const volumeId = await create('told of');
    const { volume, status: state } = await call('ControllerGetVolume', { volumeId });
    expect(volume).toMatchObject({ volumeId, capacityBytes: String(GIB), volumeContext: { version: second } });
    expect(state).toMatchObject({
      publishedNodeIds: [],
      volumeCondition: { abnormal: false, message: expect.stringMatching(/on no node/) },
    });
    const { entries } = await call('ListVolumes');
    expect(entries).toEqual([{ volume, status: state }]);
  });

  it('that a node has is well while the node lives, and is told of by list and by id when it does not', async () => {
    const { repository } = server;
    const ledger = createLedger({ repository, nodes: { look: async () => 1 } });
    const [lost, well] = [await create('lost'), await create('well')];
    const { generation } = await ledger.take(lost, node);
    expect(await reasonsOf(lost)).toEqual(['NodeLost']);
    expect(await conditionOf(lost)).toMatchObject({
      abnormal: true,
      message: expect.stringMatching(/node-7 .* no signs of life/),
    });
    const listed = async () =>
      (await call('ControllerListVolumeHealth')).entries.map(({ volumeId }: { volumeId: string }) => volumeId);
    expect(await listed()).toEqual([lost]);
    const heartbeat = startHeartbeat({
      repository,
      node,
      facts: () => ({}),
      onError: (error) => expect(error).toBe(0),
    });
    await heartbeat.beating;
    expect(await reasonsOf(lost)).toEqual([]);
    expect(await listed()).toEqual([]);
    expect(await conditionOf(lost)).toMatchObject({
      abnormal: false,
      message: expect.stringMatching(/on node node-7/),
    });
    expect((await conditionOf(well)).abnormal).toBe(false);
    expect(await fail('DeleteVolume', { volumeId: lost })).toMatchObject({
      code: status.FAILED_PRECONDITION,
      details: expect.stringMatching(/in use on node node-7/),
    });
    await ledger.release(lost, generation, 'saved');
    await heartbeat.stop({ remove: true });
  });

  it('has its health in pages', async () => {
    for (const name of ['page 1', 'page 2', 'page 3']) await create(name);
    const { entries, nextToken } = await call('ControllerListVolumeHealth', { maxEntries: 2 });
    expect(entries).toEqual([]);
    expect(nextToken).not.toBe('');
    expect((await call('ControllerListVolumeHealth', { startingToken: nextToken })).nextToken).toBe('');
    expect(await fail('ControllerListVolumeHealth', { startingToken: 'x' })).toMatchObject({ code: status.ABORTED });
    expect(await fail('ControllerListVolumeHealth', { maxEntries: -1 })).toMatchObject({
      code: status.INVALID_ARGUMENT,
    });
  });
});

describe('modifying a volume', () => {
  it('changes what it says and nothing else, as often as it is called', async () => {
    const volumeId = await create('modified', { mutableParameters: { autosave: '10s' } });
    const request = { volumeId, mutableParameters: { autosave: '1m', bandwidth: '50M', retention: 'keep' } };
    await call('ControllerModifyVolume', request);
    const after = await readVolume(server.repository, volumeId);
    expect(after.settings).toEqual({ autosave: 60_000, bandwidth: 50 * 2 ** 20, retention: 'keep' });
    await call('ControllerModifyVolume', request);
    expect(await readVolume(server.repository, volumeId)).toEqual(after);
    await call('ControllerModifyVolume', { volumeId, mutableParameters: { retention: 'drop', bandwidth: 'off' } });
    expect((await readVolume(server.repository, volumeId)).settings).toEqual({ autosave: 60_000, retention: 'drop' });
  });

  it('lets the volume be created again as it was', async () => {
    const request = { mutableParameters: { autosave: '10s' } };
    const volumeId = await create('modified, created', request);
    await call('ControllerModifyVolume', { volumeId, mutableParameters: { autosave: 'off' } });
    expect(await create('modified, created', request)).toBe(volumeId);
  });

  it('gives a pinned volume another version for its next stage', async () => {
    const volumeId = await pinned('another version', { version: first.slice(0, 12) });
    await call('ControllerModifyVolume', { volumeId, mutableParameters: { version: 'main' } });
    expect(await readVolume(server.repository, volumeId)).toMatchObject({
      base: first,
      version: second,
      kept: [first],
    });
    expect((await conditionOf(volumeId)).message).toContain(second.slice(0, 12));
    expect(await fail('ControllerModifyVolume', { volumeId, mutableParameters: { version: 'v9' } })).toMatchObject({
      code: status.NOT_FOUND,
    });
  });

  it('tells of a branch that is followed and gone', async () => {
    await moveBranch(server.repository, 'birds', 'nightly', { expect: 'absent', version: first as never });
    const volumeId = await pinned('follows', { version: 'nightly', follow: 'true' });
    expect(await reasonsOf(volumeId)).toEqual([]);
    await deleteBranch(server.repository, 'birds', 'nightly');
    expect(await reasonsOf(volumeId)).toEqual(['ReferenceGone']);
    await call('ControllerModifyVolume', { volumeId, mutableParameters: { version: 'main' } });
    expect(await reasonsOf(volumeId)).toEqual([]);
  });

  it.each([
    ['an unknown key', { colour: 'red' }, /"colour".*parameters that can change are: version .*autosave/],
    ['a key that is settled', { uid: '5' }, /"uid": it is settled/],
    ['a value that is none', { autosave: 'often' }, /"autosave" must be from 1s to 1d.*not 'often'/],
    ['another version of a workspace', { version: 'main' }, /"version".*is a workspace.*create another volume/],
  ])('is refused for %s, with the choices', async (_, mutableParameters, details) => {
    const volumeId = await create('not modified');
    const before = await readVolume(server.repository, volumeId);
    expect(await fail('ControllerModifyVolume', { volumeId, mutableParameters })).toEqual({
      code: status.INVALID_ARGUMENT,
      details: expect.stringMatching(details),
    });
    expect(await readVolume(server.repository, volumeId)).toEqual(before);
  });
});

describe('expanding a volume', () => {
  const expand = (volumeId: string, capacityRange: object, more: object = {}) =>
    call('ControllerExpandVolume', { volumeId, capacityRange, ...more });

  it('gives a workspace more room, and says that its node has to do something', async () => {
    const volumeId = await create('expanded');
    const answer = { capacityBytes: String(2 * GIB), nodeExpansionRequired: true };
    expect(await expand(volumeId, { requiredBytes: 2 * GIB })).toEqual(answer);
    expect(await expand(volumeId, { requiredBytes: 2 * GIB }, { volumeCapability: writer })).toEqual(answer);
    expect(await expand(volumeId, { requiredBytes: GIB })).toEqual(answer);
    expect((await call('ControllerGetVolume', { volumeId })).volume.capacityBytes).toBe(String(2 * GIB));
    expect(await create('expanded')).toBe(volumeId);
  });

  it('says another size of a pinned volume, of which no node has to know', async () => {
    const volumeId = await pinned('expanded, pinned');
    expect(await expand(volumeId, { requiredBytes: GIB })).toEqual({
      capacityBytes: String(GIB),
      nodeExpansionRequired: false,
    });
  });

  it('is refused where it says no size, an impossible one, or another kind of volume', async () => {
    const volumeId = await create('not expanded');
    const request = (changes: object) => fail('ControllerExpandVolume', { volumeId, ...changes });
    expect(await request({})).toMatchObject({ code: status.INVALID_ARGUMENT });
    expect(await request({ capacityRange: {} })).toMatchObject({ code: status.INVALID_ARGUMENT });
    expect(await request({ capacityRange: { limitBytes: GIB / 2 } })).toMatchObject({ code: status.OUT_OF_RANGE });
    expect(await request({ capacityRange: { requiredBytes: 2 ** 45 } })).toMatchObject({ code: status.OUT_OF_RANGE });
    const capacityRange = { requiredBytes: 2 * GIB };
    expect(await request({ capacityRange, volumeCapability: readers })).toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringMatching(/no access mode MULTI_NODE_READER_ONLY/),
    });
    expect(await request({ volumeId: 'vol-none', capacityRange })).toMatchObject({ code: status.NOT_FOUND });
  });
});

describe('the room for volumes', () => {
  const room = (request: object = {}) => call('GetCapacity', request);

  it('of workspaces is the largest that a live node has, and of pinned volumes never runs out', async () => {
    expect((await room()).availableCapacity).toBe('0');
    const beating = [3 * GIB, 5 * GIB].map((freeBytes, i) =>
      startHeartbeat({
        repository: server.repository,
        node: { node: `roomy-${i}`, instance: 'a' },
        facts: () => ({ freeBytes }),
        onError: (error) => expect(error).toBe(0),
      }),
    );
    await Promise.all(beating.map((each) => each.beating));
    expect(await room({ volumeCapabilities: [writer], parameters: { dataset: 'birds' } })).toEqual({
      availableCapacity: String(5 * GIB),
      minimumVolumeSize: { value: String(300 * 2 ** 20) },
      maximumVolumeSize: { value: String(2 ** 44 - 4096) },
    });
    expect((await room({ volumeCapabilities: [readers] })).minimumVolumeSize).toEqual({ value: '0' });
    await Promise.all(beating.map((each) => each.stop({ remove: true })));
    expect((await room()).availableCapacity).toBe('0');
  });

  it('is not told for what no volume can be', async () => {
    const shared = mountCapability('MULTI_NODE_MULTI_WRITER');
    expect(await fail('GetCapacity', { volumeCapabilities: [shared] })).toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringMatching(/ReadWriteMany is not served/),
    });
    expect(await fail('GetCapacity', { parameters: { colour: 'red' } })).toMatchObject({
      code: status.INVALID_ARGUMENT,
    });
  });
});

describe('deleting a volume', () => {
  it('that is to be kept leaves its content as a branch', async () => {
    const volumeId = await create('kept', { parameters: { dataset: 'birds', retention: 'keep' } });
    await call('DeleteVolume', { volumeId });
    await call('DeleteVolume', { volumeId });
    expect((await readBranch(server.repository, 'birds', 'volumes/kept'))?.version).toBe(second);
  });
});
