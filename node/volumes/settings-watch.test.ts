import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLedger } from '../../controller/ledger.ts';
import { modifyVolume } from '../../controller/modify.ts';
import { createVolume, deleteVolume } from '../../controller/volumes.ts';
import { moveBranch } from '../../dataset/refs.ts';
import { initRepository, type Repository } from '../../dataset/repository.ts';
import type { Version } from '../../dataset/version.ts';
import { VersionMaker } from '../../test/collect/small-versions.ts';
import { silentLogger } from '../log.ts';
import { openRecords, type StagedRecord, type StagedRecords } from '../records.ts';
import { createSerial } from '../serial.ts';
import { VersionLimits } from '../version-limits.ts';
import { createSettingsWatch } from './settings-watch.ts';

let directory: string;
let repository: Repository;
let version: Version;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'larder-settings-'));
  repository = await initRepository(join(directory, 'repository'));
  version = await new VersionMaker(repository).make(new Map([['f', 'text']]), { parents: [] });
  await moveBranch(repository, 'birds', 'main', { expect: 'absent', version: version.id });
});
afterAll(async () => {
  await repository.bucket.close();
  rmSync(directory, { recursive: true, force: true });
});

const volumeOf = (name: string, kind: 'pinned' | 'workspace', settings: object = {}) =>
  createVolume(repository, {
    name,
    kind,
    source: { dataset: 'birds' },
    capacity: {},
    settings: { retention: 'drop', ...settings },
  });

/** Volumes as they are staged, and what becomes of their settings. */
function nodeWith(
  name: string,
  volumes: readonly { id: string; kind: 'pinned' | 'workspace' }[],
  settings: object = {},
) {
  const records: StagedRecords = openRecords(join(directory, name));
  const limits = new VersionLimits();
  const begun: (string | undefined)[] = [];
  const nudged: string[] = [];
  const asked: string[] = [];
  let ledgers = 0;
  const { bucket } = repository;
  const counted: Repository = {
    ...repository,
    bucket: {
      ...bucket,
      get: (key, options) => {
        asked.push(key);
        return bucket.get(key, options);
      },
      list: (prefix, options) => {
        asked.push(`${prefix}*`);
        return bucket.list(prefix, options);
      },
    },
  };
  const ledger = createLedger({ repository: counted, nodes: { look: async () => 0 } });
  const watch = createSettingsWatch({
    records,
    lock: createSerial(),
    versions: { limit: (volume, given) => limits.set(volume, given) },
    prefetches: { begin: ({ prefetch }) => begun.push(prefetch) },
    saves: { nudge: (volume) => nudged.push(volume) },
    settingsAt: async () => {
      ledgers += 1;
      return ledger.settings;
    },
    log: silentLogger,
    interval: 3_600_000,
  });
  const stage = async ({ id, kind }: (typeof volumes)[number], more: Partial<StagedRecord> = {}) => {
    const { root, bytes, entries } = version;
    await records.put({
      volume: id,
      repository: repository.location,
      dataset: 'birds',
      version: version.id,
      root,
      size: { bytes, entries },
      kind,
      stagingPath: `/staging/${id}`,
      state: 'staged',
      published: [],
      recorded: true,
      ...settings,
      ...more,
    });
  };
  return {
    records,
    limits,
    begun,
    nudged,
    asked,
    ledgers: () => ledgers,
    watch,
    stage,
    all: Promise.all(volumes.map((one) => stage(one))),
  };
}

describe('settings that are changed while a volume is staged', () => {
  it('reach it: what it may fetch, how long it waits, what is fetched ahead, and when it is saved', async () => {
    const pinned = await volumeOf('pinned', 'pinned', { deadline: 1_000 });
    const workspace = await volumeOf('workspace', 'workspace');
    const node = nodeWith('changed', [pinned, workspace]);
    await node.all;
    await node.records.put({ ...node.records.get(pinned.id)!, deadline: 1_000 });
    await using watch = node.watch;
    await watch.look();
    expect([node.begun, node.nudged, node.limits.rate]).toEqual([[], [], undefined]);

    await modifyVolume(repository, pinned.id, { bandwidth: '1MiB', deadline: '90s', prefetch: '**/*.tar' });
    await modifyVolume(repository, workspace.id, { autosave: '3s', bandwidth: '2MiB' });
    await watch.look();
    expect(node.records.get(pinned.id)).toMatchObject({ bandwidth: 2 ** 20, deadline: 90_000, prefetch: '**/*.tar' });
    expect(node.records.get(workspace.id)).toMatchObject({ autosave: 3_000 });
    expect(node.begun).toEqual(['**/*.tar']);
    expect(node.nudged).toEqual([workspace.id]);
    expect(node.limits.rate?.bytesPerSecond).toBe(2 * 2 ** 20);
    // As a later daemon finds them.
    expect(openRecords(join(directory, 'changed')).get(pinned.id)).toMatchObject({ deadline: 90_000 });

    node.asked.length = 0;
    await watch.look();
    expect([node.begun, node.nudged]).toEqual([['**/*.tar'], [workspace.id]]);
    // Two records, one small read each.
    expect(node.asked).toHaveLength(2);
  });

  it('are taken over by a daemon that was away when they changed', async () => {
    const one = await volumeOf('away', 'pinned', { bandwidth: 1_000_000 });
    const node = nodeWith('away', [one], { bandwidth: 5_000_000, prefetch: 'all' });
    await node.all;
    await using watch = node.watch;
    await watch.look();
    expect(node.records.get(one.id)).toMatchObject({ bandwidth: 1_000_000 });
    // It says nothing of it any more, so that what goes on ends.
    expect(node.begun).toEqual([undefined]);
    expect(node.records.get(one.id)?.prefetch).toBeUndefined();
  });

  it('cost one listing for many volumes, and a read of each that changed', async () => {
    const volumes = await Promise.all(Array.from({ length: 20 }, (_, at) => volumeOf(`many-${at}`, 'pinned')));
    const node = nodeWith('many', volumes);
    await node.all;
    await using watch = node.watch;
    await watch.look();
    await modifyVolume(repository, volumes[7]!.id, { deadline: '7s' });
    node.asked.length = 0;
    await watch.look();
    expect(node.asked).toEqual(['volumes/*', `volumes/${volumes[7]!.id.slice(0, 36)}`]);
    expect(node.records.get(volumes[7]!.id)?.deadline).toBe(7_000);
  });

  it('are nothing to a volume of one pod, to one that has no record, and to one that was deleted', async () => {
    const deleted = await volumeOf('deleted', 'pinned');
    await deleteVolume(repository, deleted.id, { nodes: { look: async () => 0 } });
    const node = nodeWith('others', []);
    const unrecorded = { recorded: undefined };
    await node.stage({ id: 'csi-of-a-pod', kind: 'pinned' }, { ephemeral: true, ...unrecorded });
    await node.stage({ id: 'mount-0123456789abcdef', kind: 'workspace' }, unrecorded);
    await using watch = node.watch;
    await watch.look();
    // Not even their repository is asked, with which this node may have nothing to do.
    expect(node.ledgers()).toBe(0);
    await node.stage(deleted);
    const before = JSON.stringify(node.records.all());
    await watch.look();
    expect([node.ledgers(), JSON.stringify(node.records.all())]).toEqual([1, before]);
  });
});
