import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { startHeartbeat } from '../../controller/heartbeat.ts';
import { createLedger } from '../../controller/ledger.ts';
import { readVolume } from '../../controller/volumes.ts';
import { asksPrefix } from '../../dataset/asks.ts';
import { collect } from '../support/collect.ts';
import { mountCapability } from './client.ts';
import { type ControllerServer, startController } from './controller-server.ts';

const GIB = 2 ** 30;
const writer = mountCapability('SINGLE_NODE_WRITER');
const readers = mountCapability('MULTI_NODE_READER_ONLY');

let server: ControllerServer;
let first: string;
let workspace: string;
let pinned: string;

beforeAll(async () => {
  server = await startController();
  first = await server.importBirds({ 'robin.txt': 'r'.repeat(1000) });
  workspace = await create('workspace', { capacityRange: { requiredBytes: 2 * GIB } });
  pinned = await create('pinned', { volumeCapabilities: [readers] });
  // What volumes and snapshots have stays what it was.
  await server.importBirds({ 'robin.txt': 'R'.repeat(500) });
});
afterAll(() => server[Symbol.asyncDispose]());

const call = (method: string, request: object = {}) => server.client.call(method, request);
const fail = (method: string, request: object = {}) => server.client.fail(method, request);

async function create(name: string, changes: object = {}): Promise<string> {
  const request = { name, volumeCapabilities: [writer], parameters: { dataset: 'birds' }, ...changes };
  return (await call('CreateVolume', request)).volume.volumeId;
}
const snapshot = async (name: string, sourceVolumeId: string, parameters: object = {}) =>
  (await call('CreateSnapshot', { name, sourceVolumeId, parameters })).snapshot;
const restoring = (snapshotId: string) => ({ volumeContentSource: { snapshot: { snapshotId } } });
const cloning = (volumeId: string) => ({ volumeContentSource: { volume: { volumeId } } });
const remove = async (...volumes: string[]) => {
  for (const volumeId of volumes) await call('DeleteVolume', { volumeId });
};

describe('a snapshot of a volume that no node has', () => {
  it('is ready at once, once, and the same each time that it is asked for', async () => {
    const before = Date.now();
    const made = await snapshot('nightly', workspace);
    expect(made).toMatchObject({
      sourceVolumeId: workspace,
      sizeBytes: String(2 * GIB),
      readyToUse: true,
      groupSnapshotId: '',
    });
    const { seconds, nanos } = made.creationTime;
    const moment = Number(seconds) * 1000 + nanos / 1e6;
    expect(moment).toBeGreaterThan(before - 60_000);
    expect(moment).toBeLessThan(Date.now() + 1000);
    expect(await snapshot('nightly', workspace)).toEqual(made);
    expect((await call('GetSnapshot', { snapshotId: made.snapshotId })).snapshot).toEqual(made);
    expect(await fail('CreateSnapshot', { name: 'nightly', sourceVolumeId: pinned })).toMatchObject({
      code: status.ALREADY_EXISTS,
      details: expect.stringMatching(/"nightly"/),
    });
    await call('DeleteSnapshot', made);
    await call('DeleteSnapshot', made);
    expect(await fail('GetSnapshot', { snapshotId: made.snapshotId })).toMatchObject({ code: status.NOT_FOUND });
  });

  it.each([
    ['no name', { sourceVolumeId: 'v' }, status.INVALID_ARGUMENT, /name is missing/],
    ['no source', { name: 's' }, status.INVALID_ARGUMENT, /source_volume_id is missing/],
    ['a source that is gone', { name: 's', sourceVolumeId: 'vol-none' }, status.NOT_FOUND, /no volume "vol-none"/],
    [
      'an unknown parameter',
      { name: 's', sourceVolumeId: 'v', parameters: { colour: 'red' } },
      status.INVALID_ARGUMENT,
      /"colour".*message.*tag/,
    ],
  ] as [string, object, status, RegExp][])('is refused with %s', async (_, request, code, details) => {
    expect(await fail('CreateSnapshot', request)).toEqual({ code, details: expect.stringMatching(details) });
  });

  it('is in the log with its name, its volume and its group, and without what is secret', async () => {
    const secrets = { token: 'hunter2' };
    const last = () => server.records.at(-1);
    const { snapshotId } = (await call('CreateSnapshot', { name: 'logged', sourceVolumeId: workspace, secrets }))
      .snapshot;
    expect(last()).toMatchObject({ method: 'CreateSnapshot', volume: workspace, snapshot: 'logged', code: 'OK' });
    await call('DeleteSnapshot', { snapshotId, secrets });
    expect(last()).toMatchObject({ method: 'DeleteSnapshot', snapshot: snapshotId });
    await fail('CreateVolumeGroupSnapshot', { name: 'logged group', secrets });
    expect(last()).toMatchObject({ snapshot: 'logged group', code: 'INVALID_ARGUMENT' });
    await call('DeleteVolumeGroupSnapshot', { groupSnapshotId: 'nonsense' });
    expect(last()).toMatchObject({ snapshot: 'nonsense', code: 'OK' });
    expect(JSON.stringify(server.records)).not.toContain('hunter2');
  });

  it('is made once by calls that race, beside its deletion too', async () => {
    const request = { name: 'raced', sourceVolumeId: workspace };
    const { snapshotId } = (await call('CreateSnapshot', request)).snapshot;
    const calls = Array.from({ length: 20 }, (_, i) =>
      i % 4 === 3 ? call('DeleteSnapshot', { snapshotId }) : call('CreateSnapshot', request),
    );
    for (const result of await Promise.allSettled(calls))
      if (result.status === 'rejected') expect(result.reason.code).toBe(status.ABORTED);
    const made = (await call('CreateSnapshot', request)).snapshot;
    const { entries } = await call('ListSnapshots', { sourceVolumeId: workspace });
    expect(entries).toEqual([{ snapshot: made }]);
    await call('DeleteSnapshot', made);
  });

  it('of nothing is deleted without ado', async () => {
    for (const snapshotId of ['nonsense', 'vol-x/../..', 'snap-0'.padEnd(128, '0')])
      await call('DeleteSnapshot', { snapshotId });
    expect(await fail('DeleteSnapshot')).toMatchObject({ code: status.INVALID_ARGUMENT });
    expect(await fail('GetSnapshot')).toMatchObject({ code: status.INVALID_ARGUMENT });
  });
});

describe('a snapshot of a volume whose node does not answer', () => {
  it('is not waited for, nor kept from being asked for again, when its caller has given up', async () => {
    const { repository } = server;
    const node = { node: 'silent', instance: 'i' };
    const heart = startHeartbeat({ repository, node, facts: () => ({ freeBytes: GIB }), onError: () => {} });
    await heart.beating;
    const source = await create('held');
    await createLedger({ repository, nodes: { look: async () => 0 } }).take(source, node);
    const asked = () => collect(repository.bucket.list(asksPrefix('silent')));
    for (let i = 0; i < 2; i++) {
      const request = { name: 'not cut', sourceVolumeId: source };
      const failed = server.client.fail('CreateSnapshot', request, { deadline: Date.now() + 1_500 });
      await expect.poll(asked).toHaveLength(1);
      expect((await failed).code).toBe(status.DEADLINE_EXCEEDED);
      await expect.poll(asked).toEqual([]);
      await expect.poll(() => server.records.at(-1)).toMatchObject({ snapshot: 'not cut', code: 'CANCELLED' });
    }
    await heart.stop({ remove: true });
    // What was heard of a node holds good for a second.
    await vi.waitFor(() => remove(source), { timeout: 5_000, interval: 300 });
  });
});

describe('the list of snapshots', () => {
  const ids: string[] = [];
  beforeAll(async () => {
    for (const source of [workspace, pinned])
      for (const n of [1, 2, 3]) ids.push((await snapshot(`listed ${source} ${n}`, source)).snapshotId);
  });
  afterAll(async () => {
    for (const snapshotId of ids) await call('DeleteSnapshot', { snapshotId });
  });

  const list = async (request: object = {}) => {
    const { entries, nextToken } = await call('ListSnapshots', request);
    return { ids: entries.map((each: { snapshot: { snapshotId: string } }) => each.snapshot.snapshotId), nextToken };
  };

  it('has each once, in pages of any size, of one volume or of all', async () => {
    for (const [filter, expected] of [
      [{}, ids.toSorted()],
      [{ sourceVolumeId: pinned }, ids.slice(3).toSorted()],
    ] as const) {
      for (const maxEntries of [0, 1, 2, 5, 100]) {
        const seen: string[] = [];
        let startingToken = '';
        do {
          const page = await list({ ...filter, maxEntries, startingToken });
          if (maxEntries > 0) expect(page.ids.length).toBeLessThanOrEqual(maxEntries);
          seen.push(...page.ids);
          startingToken = page.nextToken;
        } while (startingToken !== '');
        expect(seen, `${JSON.stringify(filter)} ${maxEntries}`).toEqual(expected);
      }
    }
  });

  it('of what is not there is empty', async () => {
    expect(await list({ snapshotId: ids[0] })).toEqual({ ids: [ids[0]], nextToken: '' });
    for (const filter of [
      { snapshotId: 'nonsense' },
      { sourceVolumeId: 'nonsense' },
      { snapshotId: ids[0], sourceVolumeId: pinned },
    ])
      expect(await list(filter), JSON.stringify(filter)).toEqual({ ids: [], nextToken: '' });
  });

  it('cannot be continued from where no page ended', async () => {
    expect(await fail('ListSnapshots', { startingToken: 'x' })).toMatchObject({ code: status.ABORTED });
    expect(await fail('ListSnapshots', { maxEntries: -1 })).toMatchObject({ code: status.INVALID_ARGUMENT });
  });
});

describe('a volume that is made of another, or of a snapshot,', () => {
  it('has its version and its room, and says what it is made of', async () => {
    const { snapshotId } = await snapshot('restored from', workspace);
    for (const source of [restoring(snapshotId), cloning(workspace)]) {
      const { volume } = await call('CreateVolume', {
        name: `made of ${JSON.stringify(source)}`,
        volumeCapabilities: [writer],
        parameters: { dataset: 'birds' },
        ...source,
      });
      expect(volume).toMatchObject({
        capacityBytes: String(2 * GIB),
        volumeContext: { dataset: 'birds', version: first, kind: 'workspace' },
        contentSource: source.volumeContentSource,
      });
      expect((await call('ControllerGetVolume', volume)).volume).toEqual(volume);
      await remove(volume.volumeId);
    }
    await call('DeleteSnapshot', { snapshotId });
  });

  it('needs no dataset to be named, may be of the other kind, and of another size', async () => {
    const { snapshotId } = await snapshot('no dataset', workspace);
    const read = await create('read', { parameters: {}, volumeCapabilities: [readers], ...restoring(snapshotId) });
    expect(await readVolume(server.repository, read)).toMatchObject({ kind: 'pinned', base: first });
    const written = await create('written', { parameters: {}, ...cloning(pinned) });
    expect(await readVolume(server.repository, written)).toMatchObject({ kind: 'workspace', capacityBytes: GIB });
    const larger = await create('larger', { ...restoring(snapshotId), capacityRange: { requiredBytes: 3 * GIB } });
    expect((await readVolume(server.repository, larger)).capacityBytes).toBe(3 * GIB);
    await remove(read, written, larger);
    await call('DeleteSnapshot', { snapshotId });
  });

  it('is the same when it is created again, also when what it was made of is gone', async () => {
    const { snapshotId } = await snapshot('soon gone', workspace);
    const source = await create('soon gone');
    const of = { restored: restoring(snapshotId), cloned: cloning(source) };
    const restored = await create('restored', of.restored);
    const cloned = await create('cloned', of.cloned);
    await remove(source);
    await call('DeleteSnapshot', { snapshotId });
    expect(await create('restored', of.restored)).toBe(restored);
    expect(await create('cloned', of.cloned)).toBe(cloned);
    for (const [name, other] of [
      ['restored', of.cloned],
      ['cloned', of.restored],
      ['cloned', {}],
    ] as const) {
      const request = { name, volumeCapabilities: [writer], parameters: { dataset: 'birds' }, ...other };
      expect(await fail('CreateVolume', request), name).toMatchObject({
        code: status.ALREADY_EXISTS,
        details: expect.stringMatching(/it was made from/),
      });
    }
    await remove(restored, cloned);
  });

  it.each([
    ['a snapshot that is gone', restoring('nonsense'), status.NOT_FOUND, /no snapshot "nonsense"/],
    ['a volume that is gone', cloning('nonsense'), status.NOT_FOUND, /no volume "nonsense"/],
  ] as [string, object, status, RegExp][])('is refused for %s', async (_, changes, code, details) => {
    const request = { name: 'refused', volumeCapabilities: [writer], parameters: {}, ...changes };
    expect(await fail('CreateVolume', request)).toEqual({ code, details: expect.stringMatching(details) });
  });

  it('is refused for another dataset than that of its source', async () => {
    const request = {
      name: 'refused',
      volumeCapabilities: [writer],
      parameters: { dataset: 'fish' },
      ...cloning(workspace),
    };
    expect(await fail('CreateVolume', request)).toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringMatching(/"dataset": the volume is of 'birds', not of 'fish'/),
    });
  });
});

describe('a group of snapshots', () => {
  const group = (name: string, sourceVolumeIds: readonly string[], parameters: object = {}) =>
    call('CreateVolumeGroupSnapshot', { name, sourceVolumeIds, parameters });

  it('has one of each volume, and goes as a whole', async () => {
    const { groupSnapshot } = await group('all', [workspace, pinned]);
    const { groupSnapshotId, snapshots, creationTime, readyToUse } = groupSnapshot;
    expect(readyToUse).toBe(true);
    expect(snapshots.map((each: { sourceVolumeId: string }) => each.sourceVolumeId).toSorted()).toEqual(
      [workspace, pinned].toSorted(),
    );
    for (const each of snapshots) expect(each).toMatchObject({ groupSnapshotId, creationTime, readyToUse: true });
    expect(await group('all', [pinned, workspace])).toEqual({ groupSnapshot });
    const snapshotIds = snapshots.map((each: { snapshotId: string }) => each.snapshotId);
    expect(await call('GetVolumeGroupSnapshot', { groupSnapshotId, snapshotIds })).toEqual({ groupSnapshot });

    expect(await fail('DeleteSnapshot', { snapshotId: snapshotIds[0] })).toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringContaining(groupSnapshotId),
    });
    const restored = await create('of a member', restoring(snapshotIds[0]));
    expect((await readVolume(server.repository, restored)).base).toBe(first);
    await remove(restored);

    for (let time = 0; time < 2; time++) await call('DeleteVolumeGroupSnapshot', { groupSnapshotId, snapshotIds });
    expect(await fail('GetVolumeGroupSnapshot', { groupSnapshotId })).toMatchObject({ code: status.NOT_FOUND });
    expect((await call('ListSnapshots')).entries).toEqual([]);
  });

  it('of other volumes by a name that is taken is refused', async () => {
    const { groupSnapshot } = await group('taken', [workspace]);
    expect(
      await server.client.fail('CreateVolumeGroupSnapshot', { name: 'taken', sourceVolumeIds: [pinned] }),
    ).toMatchObject({ code: status.ALREADY_EXISTS });
    await call('DeleteVolumeGroupSnapshot', groupSnapshot);
  });

  it.each([
    ['CreateVolumeGroupSnapshot', { sourceVolumeIds: ['v'] }, status.INVALID_ARGUMENT, /name is missing/],
    ['CreateVolumeGroupSnapshot', { name: 'g' }, status.INVALID_ARGUMENT, /source_volume_ids is missing/],
    ['CreateVolumeGroupSnapshot', { name: 'g', sourceVolumeIds: [''] }, status.INVALID_ARGUMENT, /source_volume_ids/],
    ['CreateVolumeGroupSnapshot', { name: 'g', sourceVolumeIds: ['none'] }, status.NOT_FOUND, /no volume "none"/],
    ['GetVolumeGroupSnapshot', {}, status.INVALID_ARGUMENT, /group_snapshot_id is missing/],
    ['GetVolumeGroupSnapshot', { groupSnapshotId: 'none' }, status.NOT_FOUND, /none/],
    ['DeleteVolumeGroupSnapshot', {}, status.INVALID_ARGUMENT, /group_snapshot_id is missing/],
  ] as [string, object, status, RegExp][])('%s of %j is refused', async (method, request, code, details) => {
    expect(await fail(method, request)).toEqual({ code, details: expect.stringMatching(details) });
  });

  it('of nothing is deleted without ado', async () => {
    await call('DeleteVolumeGroupSnapshot', { groupSnapshotId: 'nonsense' });
  });
});
