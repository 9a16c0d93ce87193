import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from './s3-server.ts';

describe.skipIf(!hasS3Server)('the S3 server of the tests', () => {
  let server: S3Server;

  beforeAll(async () => {
    server = await startS3Server();
  }, S3_SERVER_TIMEOUT);

  afterAll(async () => {
    await server?.close();
  });

  it('keeps objects, conditions and, where asked, versions', async () => {
    const bucket = await server.makeBucket({ versions: true });
    const put = (text: string, headers = {}) =>
      server.request('PUT', `/${bucket}/a/b`, { body: Buffer.from(text), headers });
    const first = await put('one');
    expect(first.status).toBe(200);
    expect((await put('two', { 'if-none-match': '*' })).status).toBe(412);
    expect((await put('two', { 'if-match': first.headers.etag as string })).status).toBe(200);
    expect((await server.request('GET', `/${bucket}/a/b`)).body.toString()).toBe('two');
    const old = await server.request('GET', `/${bucket}/a/b?versionId=${first.headers['x-amz-version-id']}`);
    expect(old.body.toString()).toBe('one');
    expect(readFileSync(join(server.directory, bucket, 'a/b'), 'utf8')).toBe('two');
  });

  it('has what it had when it comes back after it was stopped', async () => {
    const bucket = await server.makeBucket();
    await server.request('PUT', `/${bucket}/x`, { body: Buffer.from('kept') });
    await server.stop();
    await expect(server.request('GET', `/${bucket}/x`)).rejects.toThrow('ECONNREFUSED');
    await server.restart();
    expect((await server.request('GET', `/${bucket}/x`)).body.toString()).toBe('kept');
  });

  it('ends, with its directory, when the process that started it is killed', async () => {
    const script = `
      import { startS3Server } from ${JSON.stringify(new URL('./s3-server.ts', import.meta.url).href)};
      const { endpoint, directory } = await startS3Server();
      console.log(JSON.stringify({ endpoint, directory }));
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = once(child, 'exit');
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const { endpoint, directory } = JSON.parse(line.toString()) as { endpoint: string; directory: string };
    expect((await fetch(endpoint)).status).toBe(403);
    child.kill('SIGKILL');
    await exited;
    while (await fetch(endpoint).catch(() => undefined)) await sleep(20);
    while (existsSync(directory)) await sleep(20);
  });
});
