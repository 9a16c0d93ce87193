import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canMount } from '../support/privilege.ts';
import { runSanity, type SanityCase, whyNoSanity } from './csi-sanity.ts';
import { createPlugin, type TestPlugin } from './plugin.ts';

/** Cases that csi-sanity skips, by its reasons: calls that Larder does not serve, and says so by its capabilities. */
const skipped: Readonly<Record<string, number>> = {
  // There is no attach step: any node can stage any volume.
  'ControllerPublishVolume not supported': 7,
  'ControllerUnpublishVolume not supported': 1,
  'Controller Publish, UnpublishVolume not supported': 2,
  // Snapshots, clones and groups of them.
  'CreateSnapshot not supported': 6,
  'DeleteSnapshot not supported': 3,
  'GetSnapshot not supported': 3,
  'ListSnapshots not supported': 7,
  'Snapshot not supported': 2,
  'Volume Cloning not supported': 2,
  'GroupControllerService not supported': 6,
  // Volumes that grow or change.
  'ControllerExpandVolume not supported': 3,
  'NodeExpandVolume not supported': 4,
  'ControllerModifyVolume not supported': 6,
  'Modify Volume not supported': 1,
  'Modify volume not supported': 1,
  'GetCapacity not supported': 1,
  // Calls of CSI 1.13, after the specification that Larder serves.
  'ControllerGetVolumeHealth not supported': 2,
  'ControllerListVolumeHealth not supported': 1,
  'NodeGetStorageHealth not supported': 1,
  'NodeGetVolumeHealth not supported': 2,
};

describe.skipIf(!canMount || whyNoSanity !== undefined)('csi-sanity', () => {
  let plugin: TestPlugin;
  let cases: readonly SanityCase[];

  beforeAll(async () => {
    plugin = await createPlugin();
    // Any real files do: the cases never read them.
    await plugin.importDataset('sources', import.meta.dirname);
    await plugin.start();
    cases = await runSanity({
      socket: plugin.socket,
      directory: join(plugin.directory, 'sanity'),
      parameters: { dataset: 'sources' },
    });
  }, 600_000);
  afterAll(() => plugin.close());

  const titles = (state: SanityCase['state']) => cases.filter((each) => each.state === state).map(({ title }) => title);

  it('finds no fault', () => {
    const faults = cases.filter(({ state }) => state !== 'passed' && state !== 'skipped' && state !== 'pending');
    expect(faults).toEqual([]);
    expect(titles('passed')).toHaveLength(41);
  });

  it('leaves out only what the capabilities leave out, and the one case that its authors switched off', () => {
    const reasons = cases.filter(({ state }) => state === 'skipped').map(({ message }) => message);
    expect(
      Object.fromEntries(
        Map.groupBy(reasons, (reason) => reason)
          .entries()
          .map(([k, v]) => [k, v.length]),
      ),
    ).toEqual(skipped);
    expect(titles('pending')).toEqual([expect.stringContaining('pagination should detect volumes')]);
  });

  it('leaves nothing behind', () => {
    expect(plugin.mounts()).toEqual([]);
    expect(plugin.workspaces()).toEqual([]);
    expect(plugin.records()).toEqual([]);
  });
});
