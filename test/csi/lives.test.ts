import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { loadProtocol, type ServiceName } from '../../csi/protocol.ts';
import { digestsOfDirectory } from '../support/digests.ts';
import { killRounds, spreadMoments } from '../support/kills.ts';
import { canMount } from '../support/privilege.ts';
import { type SmallDisk, smallDisk } from '../support/small-disk.ts';
import { type Caller, createCaller } from './caller.ts';
import { mountCapability } from './client.ts';
import { CHANGING, ephemeralContext, everyCall, TELLING } from './every-call.ts';
import { createPlugin, type TestPlugin } from './plugin.ts';
import { volumeCalls } from './volume.ts';

const writers = mountCapability('SINGLE_NODE_MULTI_WRITER');
const MIB = 2 ** 20;

/** How long a call takes at most where nothing else is done, in milliseconds: a moment within it cuts it. */
const CALL = 60;

/** Each call beside its opposite, so often. */
const ROUNDS = killRounds(3);

const services: readonly ServiceName[] = ['Identity', 'Controller', 'GroupController', 'Node'];

/** Calls that are not served: there is no attach step. */
const UNSERVED = ['ControllerPublishVolume', 'ControllerUnpublishVolume'];

it('the lives of volumes are gone through with every call that is served', () => {
  const protocol = loadProtocol();
  const served = services.flatMap((name) => Object.keys(protocol[name].service));
  expect([...CHANGING, ...TELLING, ...UNSERVED].sort()).toEqual(served.sort());
});

describe.skipIf(!canMount)('the lives of volumes', () => {
  let disk: SmallDisk;
  let plugin: TestPlugin;
  let caller: Caller;
  let source: string;

  beforeAll(async () => {
    disk = await smallDisk({ type: 'xfs', bytes: 3 * 2 ** 30 });
    plugin = await createPlugin({ cache: join(disk.directory, 'cache') });
    source = join(plugin.directory, 'source');
    mkdirSync(source);
    for (let i = 0; i < 10; i++) writeFileSync(join(source, `${i}.bin`), `${i} `.repeat(1000));
    await plugin.importDataset('numbers', source);
    await plugin.start();
    caller = createCaller(plugin.socket);
  });
  afterAll(async () => {
    caller?.close();
    await plugin?.close();
    await disk?.[Symbol.asyncDispose]();
  });
  afterEach(async () => {
    await expect.poll(() => plugin.leftovers()).toEqual([]);
    expect(plugin.records()).toEqual([]);
  });

  it('are the same when every call is repeated', async () => {
    const made = new Set<string>();
    await everyCall(plugin, 'repeated', async (method, request) => {
      made.add(method);
      const first = await caller.call(method, request);
      const second = await caller.call(method, request);
      if (CHANGING.includes(method)) expect(whatStays(second)).toEqual(whatStays(first));
      return second;
    });
    expect([...made].sort()).toEqual([...CHANGING, ...TELLING].sort());
  });

  it('go on where each call was cut by a restart of the plugin', async () => {
    const moment = spreadMoments();
    const cut = new Set<string>();
    await everyCall(plugin, 'cut', async (method, request) => {
      if (!CHANGING.includes(method) || cut.has(method)) return await caller.call(method, request);
      cut.add(method);
      const answer = caller.call(method, request);
      await sleep(moment() * CALL);
      await plugin.stop('SIGTERM');
      await plugin.start();
      return await answer;
    });
    expect([...cut].sort()).toEqual([...CHANGING].sort());
  });

  describe('beside their opposite', () => {
    const allowed = [status.OK, status.ABORTED, status.UNAVAILABLE, status.FAILED_PRECONDITION, status.NOT_FOUND];

    /** Makes the calls at once; each works, or says that it cannot now. @returns what each was answered */
    async function atOnce(...calls: (readonly [method: string, request: object])[]) {
      const answers = await Promise.all(
        calls.map(async ([method, request], at) => {
          await sleep(at * Math.random() * 5);
          return await caller.once(method, request);
        }),
      );
      for (const [at, answer] of answers.entries()) {
        const code = typeof answer === 'number' ? answer : status.OK;
        expect(allowed, `${calls[at]?.[0]} was answered ${status[code]}`).toContain(code);
      }
    }

    async function create(name: string) {
      const request = { name, volumeCapabilities: [writers], parameters: { dataset: 'numbers', autosave: 'off' } };
      const { volume } = await caller.call('CreateVolume', { ...request, capacityRange: range(300) });
      const { volumeId } = volume as { volumeId: string };
      const calls = volumeCalls(caller, plugin.directory, volumeId, writers);
      const staged = { volumeId, stagingTargetPath: calls.stagingPath, volumeCapability: writers };
      return { ...calls, request: { ...request, capacityRange: range(300) }, staged };
    }
    const range = (mebibytes: number) => ({ requiredBytes: String(mebibytes * MIB) });

    const eachRound = async (round: (name: string) => Promise<void>) => {
      for (let i = 0; i < ROUNDS; i++) await round(`${expect.getState().currentTestName} ${i}`);
    };

    it('creation and deletion leave one volume or none', async () => {
      await eachRound(async (name) => {
        const { volumeId, request } = await create(name);
        await atOnce(['CreateVolume', request], ['DeleteVolume', { volumeId }], ['CreateVolume', request]);
        const { volume } = await caller.call('CreateVolume', request);
        expect(plugin.records()).toHaveLength(1);
        await caller.call('DeleteVolume', { volumeId: volume.volumeId });
        await caller.call('DeleteVolume', { volumeId });
      });
    });

    it('modification, expansion and deletion leave nothing', async () => {
      await eachRound(async (name) => {
        const { volumeId } = await create(name);
        await atOnce(
          ['ControllerModifyVolume', { volumeId, mutableParameters: { autosave: '5m' } }],
          ['ControllerExpandVolume', { volumeId, capacityRange: range(400) }],
          ['DeleteVolume', { volumeId }],
        );
        await caller.call('DeleteVolume', { volumeId });
      });
    });

    it('staging and unstaging end in what is asked last', async () => {
      await eachRound(async (name) => {
        const volume = await create(name);
        const { volumeId, staged } = volume;
        await atOnce(['NodeStageVolume', staged], ['NodeUnstageVolume', staged], ['NodeStageVolume', staged]);
        await volume.stage();
        await atOnce(['NodeUnstageVolume', staged], ['DeleteVolume', { volumeId }]);
        // Gone already, where the deletion came last.
        if ((await caller.once('ControllerGetVolume', { volumeId })) !== status.NOT_FOUND) {
          await volume.stage();
          await volume.publish('pod');
          expect(await digestsOfDirectory(volume.targetOf('pod'))).toEqual(await digestsOfDirectory(source));
          await volume.unpublish('pod');
        }
        await volume.unstage();
        await caller.call('DeleteVolume', { volumeId });
      });
    });

    it('publication and the end of it, growth, and unstaging end in what is asked last', async () => {
      await eachRound(async (name) => {
        const volume = await create(name);
        const { volumeId, staged } = volume;
        await volume.stage();
        const published = { ...staged, targetPath: volume.targetOf('pod') };
        await atOnce(
          ['NodePublishVolume', published],
          ['NodeUnpublishVolume', published],
          ['NodeUnstageVolume', staged],
        );
        await volume.stage();
        await volume.publish('pod');
        writeFileSync(join(volume.targetOf('pod'), 'result.txt'), name);
        const written = await digestsOfDirectory(volume.targetOf('pod'));
        await caller.call('ControllerExpandVolume', { volumeId, capacityRange: range(400) });
        await atOnce(
          ['NodeExpandVolume', { volumeId, volumePath: volume.targetOf('pod'), capacityRange: range(400) }],
          ['NodeUnpublishVolume', published],
          ['NodeUnstageVolume', staged],
        );
        await volume.stage();
        await volume.publish('pod');
        expect(await digestsOfDirectory(volume.targetOf('pod'))).toEqual(written);
        await volume.unpublish('pod');
        await volume.unstage();
        await caller.call('DeleteVolume', { volumeId });
      });
    });

    it('snapshots, groups of them, and their deletion leave nothing', async () => {
      await eachRound(async (name) => {
        const volume = await create(name);
        const { volumeId } = volume;
        await volume.stage();
        const asked = { name: `snapshot ${name}`, sourceVolumeId: volumeId };
        const { snapshot } = await caller.call('CreateSnapshot', asked);
        const { snapshotId } = snapshot;
        await atOnce(['CreateSnapshot', asked], ['DeleteSnapshot', { snapshotId }], ['CreateSnapshot', asked]);
        const last = await caller.call('CreateSnapshot', asked);
        const group = { name: `group ${name}`, sourceVolumeIds: [volumeId] };
        const { groupSnapshot } = await caller.call('CreateVolumeGroupSnapshot', group);
        const ofGroup = (made: { groupSnapshotId: string; snapshots: { snapshotId: string }[] }) => ({
          groupSnapshotId: made.groupSnapshotId,
          snapshotIds: made.snapshots.map((member) => member.snapshotId),
        });
        await atOnce(
          ['DeleteVolumeGroupSnapshot', ofGroup(groupSnapshot)],
          ['CreateVolumeGroupSnapshot', group],
          ['NodeUnstageVolume', volume.staged],
        );
        const lastGroup = await caller.call('CreateVolumeGroupSnapshot', group);
        await caller.call('DeleteVolumeGroupSnapshot', ofGroup(lastGroup.groupSnapshot));
        for (const id of [snapshotId, last.snapshot.snapshotId])
          await caller.call('DeleteSnapshot', { snapshotId: id });
        await volume.unstage();
        await caller.call('DeleteVolume', { volumeId });
      });
    });

    it("a pod's own volume ends with its pod", async () => {
      await eachRound(async (name) => {
        const volumeId = `csi-${name.replaceAll(/[^a-z0-9]+/gi, '-')}`;
        const targetPath = join(plugin.directory, 'kubelet', volumeId, 'pod');
        const request = { volumeId, targetPath, volumeCapability: writers, volumeContext: ephemeralContext };
        mkdirSync(join(targetPath, '..'), { recursive: true });
        await atOnce(['NodePublishVolume', request], ['NodeUnpublishVolume', { volumeId, targetPath }]);
        await caller.call('NodePublishVolume', request);
        expect(await digestsOfDirectory(targetPath)).toEqual(await digestsOfDirectory(source));
        await caller.call('NodeUnpublishVolume', { volumeId, targetPath });
      });
    });
  });
});

/** Of an answer, what a repeated call gives again: whether something is ready may have become true meanwhile. */
function whatStays(answer: unknown): unknown {
  return JSON.parse(JSON.stringify(answer, (key, value) => (key === 'readyToUse' ? undefined : value)));
}
