import { hash } from 'node:crypto';
import { existsSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canMount } from '../support/privilege.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from '../support/s3-server.ts';
import { type ColdVersion, createCacheWorld } from './cache-world.ts';

describe.skipIf(!canMount || !hasS3Server)('while the bucket is away', () => {
  const cache = createCacheWorld();
  let server: S3Server;
  beforeAll(async () => {
    server = await startS3Server();
    const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION } = process.env;
    const repository = await server.location('kept');
    cache.begin({ AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, LARDER_REPOSITORY: repository });
  }, S3_SERVER_TIMEOUT);
  afterAll(async () => {
    await cache.end();
    await server?.close();
  });

  /** Wrong contents, or the code of the error that an open ended with; nothing where it was right. */
  const outcome = async ({ target, files }: ColdVersion, name: string): Promise<string> => {
    try {
      return hash('sha256', await readFile(join(target, name))) === files.get(name) ? '' : 'wrong';
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? String(error);
    }
  };

  it('the daemon is told to end, and the next one serves the opens that waited once the bucket is back', async () => {
    const version = cache.cold('upgrade', 20, 40_000);
    await server.stop();
    const opens = [...version.files.keys()].map((name) => outcome(version, name));
    await sleep(300);
    await cache.kill(cache.pids().pid, 'SIGTERM');
    cache.startDaemon();
    await cache.untilServing();
    await server.restart();
    expect((await Promise.all(opens)).filter((code) => code !== '')).toEqual([]);
  }, 120_000);

  it('what is cached is read by a daemon that starts only then, the rest ends at the deadline, and comes later', async () => {
    const version = cache.cold('deadline', 2, 40_000);
    const [cached, missing] = [...version.files.keys()] as [string, string];
    cache.world.ok('prefetch', 'deadline', cached);
    await cache.kill(cache.pids().pid);
    // It may have come along with the other.
    const id = version.files.get(missing)!;
    rmSync(join(cache.objects, id.slice(0, 2), id), { force: true });
    await server.stop();
    const csi = join(cache.world.directory, 'csi.sock');
    cache.startDaemon({ LARDER_DEADLINE: '2s', CSI_ENDPOINT: `unix://${csi}` });
    await cache.untilServing();
    expect(await outcome(version, cached)).toBe('');
    expect(await outcome(version, missing)).toBe('EIO');
    expect(existsSync(csi)).toBe(false);
    await server.restart();
    await expect.poll(() => outcome(version, missing), { timeout: 40_000, interval: 100 }).toBe('');
    // The daemon did not end for it, and answers the cluster now.
    await expect.poll(() => existsSync(csi), { timeout: 40_000, interval: 100 }).toBe(true);
  }, 120_000);
});
