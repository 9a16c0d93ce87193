import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { killRounds, spreadMoments } from '../support/kills.ts';
import { canMount } from '../support/privilege.ts';
import { type Caller, createCaller } from './caller.ts';
import { mountCapability } from './client.ts';
import { createPlugin, type TestPlugin } from './plugin.ts';
import { volumeCalls } from './volume.ts';

const writers = mountCapability('SINGLE_NODE_MULTI_WRITER');

/** What is in a file of the dataset. */
const textOf = (file: number) => `${file} `.repeat(1000);

/** Kills of the plugin in the middle of a volume's life. */
const KILLS = killRounds(8);

describe.skipIf(!canMount)('a plugin that is killed', () => {
  let plugin: TestPlugin;
  let caller: Caller;

  beforeAll(async () => {
    plugin = await createPlugin();
    const source = join(plugin.directory, 'source');
    mkdirSync(source);
    for (let i = 0; i < 50; i++) writeFileSync(join(source, `${i}.bin`), textOf(i));
    await plugin.importDataset('numbers', source);
    await plugin.start();
    caller = createCaller(plugin.socket);
  });
  afterAll(async () => {
    caller?.close();
    await plugin?.close();
  });

  it('leaves nothing that repeating the calls does not mend, whenever it was', async () => {
    const moment = spreadMoments();
    for (let round = 0; round < KILLS; round++) {
      const files = [round * 4, round * 4 + 1, round * 4 + 2];
      const killing = sleep(moment() * 600).then(async () => {
        await plugin.stop('SIGKILL');
        await plugin.start();
      });
      await Promise.all([live(`killed ${round}`, files), killing]);
      await live(`killed ${round}`, files);
      await expect.poll(() => plugin.leftovers(), { message: `round ${round}` }).toEqual([]);
      expect(plugin.records(), `round ${round}`).toEqual([]);
    }
  }, 240_000);

  /** A volume's whole life, each call repeated until it succeeds, as a cluster does; a pod reads these files. */
  async function live(name: string, files: readonly number[]): Promise<void> {
    const { volume } = await caller.call('CreateVolume', {
      name,
      volumeCapabilities: [writers],
      parameters: { dataset: 'numbers' },
    });
    const calls = volumeCalls(caller, plugin.directory, volume.volumeId, writers);
    const target = calls.targetOf('pod');
    await calls.stage();
    await calls.publish('pod');
    expect(readdirSync(target).length).toBeGreaterThanOrEqual(50);
    // Not by synchronous calls: an open may wait for the plugin that this process starts again.
    for (const file of files) expect(await readFile(join(target, `${file}.bin`), 'utf8')).toBe(textOf(file));
    writeFileSync(join(target, 'written'), 'by a pod');
    await calls.unpublish('pod');
    await calls.unstage();
    await calls.stage();
    await calls.publish('pod');
    expect(readFileSync(join(target, 'written'), 'utf8')).toBe('by a pod');
    await calls.unpublish('pod');
    await calls.unstage();
    await caller.call('DeleteVolume', { volumeId: volume.volumeId });
  }
});
