import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ServiceError } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { killRounds, spreadMoments } from '../support/kills.ts';
import { canMount } from '../support/privilege.ts';
import { type CsiClient, connectCsi, mountCapability } from './client.ts';
import { createPlugin, type TestPlugin } from './plugin.ts';

const writers = mountCapability('SINGLE_NODE_MULTI_WRITER');

/** What is in a file of the dataset. */
const textOf = (file: number) => `${file} `.repeat(1000);

/** Kills of the plugin in the middle of a volume's life. */
const KILLS = killRounds(8);

/** How long a call is repeated, in milliseconds. */
const PATIENCE = 30_000;

describe.skipIf(!canMount)('a plugin that is killed', () => {
  let plugin: TestPlugin;
  let client: CsiClient;

  beforeAll(async () => {
    plugin = await createPlugin();
    const source = join(plugin.directory, 'source');
    mkdirSync(source);
    for (let i = 0; i < 50; i++) writeFileSync(join(source, `${i}.bin`), textOf(i));
    await plugin.importDataset('numbers', source);
    await plugin.start();
    client = connectCsi(plugin.socket);
  });
  afterAll(async () => {
    client.close();
    await plugin.close();
  });

  it('leaves nothing that repeating the calls does not mend, whenever it was', async () => {
    const moment = spreadMoments();
    for (let round = 0; round < KILLS; round++) {
      const life = lifeOf(`killed ${round}`, [round * 4, round * 4 + 1, round * 4 + 2]);
      const killing = sleep(moment() * 600).then(async () => {
        await plugin.stop('SIGKILL');
        await plugin.start();
      });
      await Promise.all([life.run(), killing]);
      await life.run();
      expect(plugin.mounts(), `round ${round}`).toEqual([]);
      expect(plugin.workspaces(), `round ${round}`).toEqual([]);
      expect(plugin.records(), `round ${round}`).toEqual([]);
    }
  }, 240_000);

  /** A volume's whole life, each call repeated until it succeeds, as a cluster does; a pod reads these files. */
  function lifeOf(name: string, files: readonly number[]) {
    const call = async (method: string, request: object) => {
      const end = Date.now() + PATIENCE;
      for (;;) {
        try {
          return await client.call(method, request);
        } catch (error) {
          const { code } = error as ServiceError;
          if ((code !== status.UNAVAILABLE && code !== status.ABORTED) || Date.now() > end) throw error;
          await sleep(50);
        }
      }
    };
    return {
      async run() {
        const { volume } = await call('CreateVolume', {
          name,
          volumeCapabilities: [writers],
          parameters: { dataset: 'numbers' },
        });
        const { volumeId } = volume;
        const stagingTargetPath = join(plugin.directory, 'kubelet', volumeId, 'globalmount');
        const targetPath = join(plugin.directory, 'kubelet', volumeId, 'pod');
        const request = { volumeId, stagingTargetPath, targetPath, volumeCapability: writers };
        await call('NodeStageVolume', request);
        await call('NodePublishVolume', request);
        expect(readdirSync(targetPath).length).toBeGreaterThanOrEqual(50);
        // Not by synchronous calls: an open may wait for the plugin that this process starts again.
        for (const file of files) expect(await readFile(join(targetPath, `${file}.bin`), 'utf8')).toBe(textOf(file));
        writeFileSync(join(targetPath, 'written'), 'by a pod');
        await call('NodeUnpublishVolume', request);
        await call('NodeUnstageVolume', request);
        await call('NodeStageVolume', request);
        await call('NodePublishVolume', request);
        expect(readFileSync(join(targetPath, 'written'), 'utf8')).toBe('by a pod');
        await call('NodeUnpublishVolume', request);
        await call('NodeUnstageVolume', request);
        await call('DeleteVolume', request);
      },
    };
  }
});
