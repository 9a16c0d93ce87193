import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canMount } from '../support/privilege.ts';
import { runSanity, type SanityCase, whyNoSanity } from './csi-sanity.ts';
import { createPlugin, type TestPlugin } from './plugin.ts';

/** Cases that csi-sanity skips, by its reasons; docs/csi.md says why each has to be. */
const skipped: Readonly<Record<string, number>> = {
  // There is no attach step: any node can stage any volume.
  'ControllerPublishVolume not supported': 7,
  'ControllerUnpublishVolume not supported': 1,
  'Controller Publish, UnpublishVolume not supported': 2,
  // A snapshot is usable from every node, so there is nothing to be constrained.
  'SNAPSHOT_ACCESSIBILITY_CONSTRAINTS not supported': 1,
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
      mutableParameters: { autosave: '10s' },
    });
  }, 600_000);
  afterAll(() => plugin.close());

  const titles = (state: SanityCase['state']) => cases.filter((each) => each.state === state).map(({ title }) => title);

  it('finds no fault', () => {
    const faults = cases.filter(({ state }) => state !== 'passed' && state !== 'skipped' && state !== 'pending');
    expect(faults).toEqual([]);
    expect(titles('passed')).toHaveLength(91);
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

  it('leaves nothing behind', async () => {
    expect(plugin.leftovers().filter((name) => !name.startsWith('incoming/'))).toEqual([]);
    expect(plugin.workspaces()).toEqual([]);
    for (const prefix of ['volumes/', 'snapshots/', 'groups/']) {
      for await (const { key } of plugin.repository.bucket.list(prefix)) expect(key).toBe('gone');
    }
  });
});
