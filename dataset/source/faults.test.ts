import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BreakingProxy, randomFaults, startBreakingProxy } from '../../test/support/breaking-proxy.ts';
import { createRandom } from '../../test/support/random.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from '../../test/support/s3-server.ts';
import { bytesOf } from '../byte-string.ts';
import type { FileEntry } from '../entry.ts';
import { findEntry } from '../manifest.ts';
import { readFile } from '../read-file.ts';
import { initRepository, type Repository } from '../repository.ts';
import type { Version } from '../version.ts';
import { importInPlace, importObjects, parseObjectsPlace } from './import-objects.ts';
import { closeSources } from './sources.ts';

describe.skipIf(!hasS3Server)('importing over a network that breaks', () => {
  let server: S3Server;
  let proxy: BreakingProxy;
  let folder: string;
  let repository: Repository;
  let location: string;
  const files = new Map<string, Buffer>();

  beforeAll(async () => {
    server = await startS3Server();
    proxy = await startBreakingProxy(server.endpoint);
    folder = mkdtempSync(join(tmpdir(), 'larder-source-faults-'));
    process.env.LARDER_STATE = join(folder, 'state');
    repository = await initRepository(join(folder, 'repository'));
    const bucket = await server.makeBucket();
    for (let i = 0; i < 40; i++) {
      const bytes = randomBytes(i % 10 === 0 ? 2_000_000 : 1000 + i * 9000);
      files.set(`d${i % 3}/f${i}`, bytes);
      expect((await server.request('PUT', `/${bucket}/d${i % 3}/f${i}`, { body: bytes })).status).toBe(200);
    }
    location = proxy.location(server.locationOf(bucket));
  }, S3_SERVER_TIMEOUT);

  afterAll(async () => {
    await closeSources(repository);
    await repository?.bucket.close();
    await proxy?.close();
    await server?.close();
    delete process.env.LARDER_STATE;
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  it.each([
    ['copies', importObjects],
    ['refers to', importInPlace],
  ] as const)('%s what is there, or fails, and never has other bytes', async (name, importAll) => {
    const kinds = ['error', 'slow-down', 'refuse', 'reset', 'truncate', 'lose-answer', 'latency'] as const;
    proxy.plan = randomFaults(createRandom(7), { every: 6, kinds });
    proxy.reset();
    const { version } = await importAll({
      repository,
      dataset: 'data',
      branch: name.replace(' ', '-'),
      message: '',
      author: 'a test',
      place: parseObjectsPlace(location),
    });
    expect(version.entries).toBe(44);
    for (const [key, bytes] of files) expect((await read(version, key)).equals(bytes), key).toBe(true);
    expect([...proxy.faults.values()].reduce((sum, count) => sum + count, 0)).toBeGreaterThan(3);
  });

  async function read({ root }: Version, path: string): Promise<Buffer> {
    const entry = (await findEntry(repository, root, bytesOf(path))) as FileEntry;
    const blocks: Buffer[] = [];
    for await (const block of readFile(repository, entry, { root })) blocks.push(Buffer.from(block));
    return Buffer.concat(blocks);
  }
});
