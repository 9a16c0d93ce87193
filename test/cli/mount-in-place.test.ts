import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canMount } from '../support/privilege.ts';
import { hasS3Server, type S3Server, startS3Server } from '../support/s3-server.ts';
import { createWorld } from './support.ts';

const canRun = canMount && hasS3Server;
// First: it sets the environment that the program is to have.
const server: S3Server | undefined = canRun ? await startS3Server() : undefined;
afterAll(() => server?.close());

const { directory, larder, ok, documents } = createWorld();

describe.skipIf(!canRun)('a mount of objects in place', () => {
  const at = (name: string) => join(directory, 'mounted', name);
  const large = randomBytes(3_000_000);
  let bucket: string;
  const put = async (key: string, body: Buffer) =>
    expect((await server!.request('PUT', `/${bucket}/${key}`, { body })).status).toBe(200);

  beforeAll(async () => {
    bucket = await server!.makeBucket();
    await put('in/large', large);
    for (const key of ['a', 'b', 'c', 'empty'])
      await put(`in/d/${key}`, Buffer.from(key === 'empty' ? '' : `object ${key}`));
    ok('repository', 'init');
    ok('import', server!.locationOf(bucket, 'in'), 'data', '--in-place');
    ok('mount', 'data', join(directory, 'mounted'));
  });

  afterAll(() => {
    const [status] = documents('status');
    const { pid, keeperPid } = status as { pid: number; keeperPid?: number };
    larder('unmount', join(directory, 'mounted'));
    process.kill(pid, 'SIGTERM');
    if (keeperPid !== undefined) process.kill(keeperPid, 'SIGTERM');
  });

  it('reads their bytes', () => {
    expect(readFileSync(at('large')).equals(large)).toBe(true);
    expect(readFileSync(at('d/a'), 'utf8')).toBe('object a');
    expect(readFileSync(at('d/empty'), 'utf8')).toBe('');
  });

  it('fails a read of what changed or is gone with EIO, and names the key in the log; what was read before stays', async () => {
    await put('in/d/a', Buffer.from('OTHER! a'));
    await put('in/d/b', Buffer.from('OTHER! b'));
    expect((await server!.request('DELETE', `/${bucket}/in/d/c`)).status).toBe(204);
    for (const path of ['d/b', 'd/c']) expect(() => readFileSync(at(path))).toThrow(/EIO/);
    expect(readFileSync(at('d/a'), 'utf8')).toBe('object a');
    const lines = readFileSync(join(directory, 'run', 'node.log'), 'utf8').split('\n');
    expect(lines.filter((line) => line.includes(`'in/d/b' in bucket '${bucket}' has changed`))).toHaveLength(1);
    expect(lines.filter((line) => line.includes(`'in/d/c' is gone from bucket '${bucket}'`))).toHaveLength(1);
  });

  it('reads an object again once it is back as it was', async () => {
    await put('in/d/b', Buffer.from('object b'));
    expect(readFileSync(at('d/b'), 'utf8')).toBe('object b');
  });
});
