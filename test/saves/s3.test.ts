import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HeldError } from '../../dataset/volume-terms.ts';
import { type BreakingProxy, startBreakingProxy } from '../support/breaking-proxy.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from '../support/s3-server.ts';
import { FIRST, until } from './nodes.ts';
import { describeSaves } from './setting.ts';

describe.skipIf(!hasS3Server)('with the repository in an S3 bucket', () => {
  let server: S3Server;
  let proxy: BreakingProxy;
  let made = 0;

  beforeAll(async () => {
    server = await startS3Server();
    proxy = await startBreakingProxy(server.endpoint);
  }, S3_SERVER_TIMEOUT);
  afterAll(async () => {
    await proxy?.close();
    await server?.close();
  });

  describeSaves(
    'the changes to a workspace',
    (setting) => {
      it('are saved while it is staged, cost no request while there are none, and are there on the next node', async () => {
        const { nodes } = setting;
        const volume = await nodes.workspace('stored', { retention: 'drop' });
        const [first, second] = [await nodes.open('n1', { autosave: 300 }), await nodes.open('n2')];
        const at = await first.stage(volume);
        const large = Buffer.alloc(3_000_000, 'written by a pod ');
        writeFileSync(join(at, 'large'), large);
        rmSync(join(at, 'b'));
        const saved = await until('a save', async () => {
          const { version } = await nodes.read(volume.id);
          return version === volume.version ? undefined : version;
        });
        expect(await nodes.content(saved)).toMatchObject({ a: 'first a' });

        const idle = () => first.node.volumes.saves.stats().saves.idle ?? 0;
        await until('it rests', () => idle() >= 2);
        const asked: string[] = [];
        proxy.plan = ({ method, path }) => {
          // A node gives signs of life all the time, and looks for what it is asked.
          if (!path.includes('/nodes/')) asked.push(`${method} ${path}`);
          return undefined;
        };
        const before = idle();
        await sleep(1_500);
        proxy.plan = () => undefined;
        expect(idle()).toBeGreaterThan(before);
        expect(asked).toEqual([]);

        writeFileSync(join(at, 'last'), 'before it is unstaged');
        await expect(second.stage(volume)).rejects.toThrow(HeldError);
        await first.unstage(volume);
        expect(await nodes.read(volume.id)).not.toHaveProperty('holder');
        const there = await second.stage(volume);
        expect(readFileSync(join(there, 'last'), 'utf8')).toBe('before it is unstaged');
        // Not synchronously: this process is also the node that brings it.
        expect((await readFile(join(there, 'large'))).equals(large)).toBe(true);
        await writeFile(join(there, 'large'), 'small now');
        await second.unstage(volume);
        const { b: _, ...rest } = FIRST;
        expect(await nodes.content((await nodes.read(volume.id)).version)).toEqual({
          ...rest,
          last: 'before it is unstaged',
          large: 'small now',
        });
      });

      it('are kept where the bucket does not answer, and saved when it does again', async () => {
        const { nodes } = setting;
        const volume = await nodes.workspace('refused', { retention: 'drop' });
        const node = await nodes.open('n1', { autosave: 300 });
        const at = await node.stage(volume);
        const { saves } = node.node.volumes;
        await until('it rests', () => (saves.stats().saves.idle ?? 0) >= 2);
        proxy.plan = () => ({ kind: 'refuse' });
        try {
          writeFileSync(join(at, 'a'), 'changed');
          await until('it is told', () => saves.stateOf(volume.id)!.failing, 60_000);
        } finally {
          proxy.plan = () => undefined;
        }
        await until('it is saved', async () => (await nodes.read(volume.id)).version !== volume.version, 60_000);
        expect(await nodes.content((await nodes.read(volume.id)).version)).toEqual({ ...FIRST, a: 'changed' });
        await node.unstage(volume);
      });
    },
    async () => proxy.location(await server.location(`saves-${made++}`)),
  );
});
