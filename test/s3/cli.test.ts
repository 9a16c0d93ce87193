import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createWorld } from '../cli/support.ts';
import { canMount } from '../support/privilege.ts';
import { createRandom } from '../support/random.ts';
import { hasS3Server, S3_SERVER_TIMEOUT, type S3Server, startS3Server } from '../support/s3-server.ts';

const { directory, env, larder, ok, documents, shell } = createWorld();
const source = join(directory, 'source');
const at = (name: string) => join(directory, name);

let server: S3Server;
let first = '';
let second = '';

beforeAll(async () => {
  if (!hasS3Server) return;
  server = await startS3Server();
  for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) env[name] = process.env[name];
  env.LARDER_REPOSITORY = await server.location('team/data');
  const random = createRandom(1);
  for (let index = 0; index < 40; index++) {
    mkdirSync(join(source, `d${index % 4}`), { recursive: true });
    writeFileSync(join(source, `d${index % 4}`, `f${index}`), random.bytes(5_000 + 997 * index));
  }
  writeFileSync(join(source, 'large'), random.bytes(9 << 20));
  writeFileSync(join(source, 'labels.csv'), 'file,class\n');
}, S3_SERVER_TIMEOUT);

afterAll(() => server?.close());

describe.skipIf(!hasS3Server)('the command line with a repository on S3', () => {
  it('says that there is no repository yet, and which command makes one', () => {
    expect(larder('list')).toMatchObject({ status: 3, stderr: expect.stringContaining('larder repository init') });
  });

  it('makes one, once, and shows it without a secret', () => {
    const [made] = documents('repository', 'init');
    expect(made).toMatchObject({ location: expect.stringMatching(/^s3:\/\/.*\/team\/data\?endpoint=http/) });
    expect(documents('repository', 'init')).toMatchObject([{ id: made!.id }]);
    const shown = ok('repository', 'show');
    expect(shown).toContain('s3://');
    expect(shown).not.toContain(server.credentials.secretKey);
    expect(shown).not.toContain(server.credentials.accessKey);
  });

  it('imports, and imports again only what changed', () => {
    const [imported] = documents('import', source, 'birds', '--tag', 'v1', '-m', 'first');
    expect(imported).toMatchObject({ dataset: 'birds', branch: 'main', unchanged: false });
    first = imported!.version as string;
    expect(documents('import', source, 'birds')).toMatchObject([{ version: first, unchanged: true }]);
    writeFileSync(join(source, 'labels.csv'), 'file,class\nf1,wren\n');
    rmSync(join(source, 'd1', 'f1'));
    const [again] = documents('import', source, 'birds', '-m', 'second');
    second = again!.version as string;
    expect(documents('show', 'birds')).toMatchObject([{ version: second, parents: [first] }]);
  });

  it('lists, logs, compares and reads', () => {
    expect(documents('list')).toMatchObject([{ dataset: 'birds' }]);
    expect(documents('log', 'birds').map(({ version }) => version)).toEqual([second, first]);
    const differences = documents('diff', 'birds@v1', '@main');
    expect(differences.find(({ path }) => path === 'd1/f1')).toMatchObject({ change: 'removed' });
    expect(differences.find(({ path }) => path === 'labels.csv')).toMatchObject({ change: 'modified' });
    expect(ok('cat', 'birds', 'labels.csv')).toBe('file,class\nf1,wren\n');
    expect(ok('cat', 'birds@v1', 'labels.csv')).toBe('file,class\n');
    expect(documents('history', 'birds', 'd1/f1').map(({ change }) => change)).toEqual(['removed', 'added']);
  });

  it('tags, and keeps a tag where it is unless told', () => {
    ok('tag', 'create', 'birds', 'v2');
    expect(larder('tag', 'create', 'birds@v1', 'v2')).toMatchObject({
      status: 4,
      stderr: expect.stringContaining('--force'),
    });
    ok('branch', 'create', 'birds@v1', 'side');
    expect(documents('branch', 'list', 'birds').map(({ branch }) => branch)).toEqual(['main', 'side']);
  });

  it('checks out what was imported, and commits it back', () => {
    ok('checkout', 'birds', at('copy'));
    expect(shell('diff -r source copy')).toMatchObject({ status: 0, stdout: '' });
    expect(documents('commit', at('copy'), 'birds')).toMatchObject([{ version: second, unchanged: true }]);
  });

  it('verifies it, and names what is damaged', async () => {
    expect(documents('verify', '--deep').at(-1)).toMatchObject({ summary: { damaged: 0 } });
    const bucket = /^s3:\/\/([^/]+)/.exec(env.LARDER_REPOSITORY!)![1]!;
    const pack = shell(
      `cd '${join(server.directory, bucket)}' && find . -path '*/packs/*' -type f -size +1M | head -n 1`,
    );
    const path = pack.stdout.trim().slice(1);
    const bytes = readFileSync(join(server.directory, bucket, path));
    const flipped = Buffer.from(bytes);
    flipped[flipped.length >> 1]! ^= 1;
    const put = (body: Buffer) => server.request('PUT', `/${bucket}${path}`, { body });
    expect((await put(flipped)).status).toBe(200);
    const { status, stdout, stderr } = larder('verify', '--deep');
    expect({ status, stderr }).toMatchObject({ status: 5, stderr: expect.stringContaining('damage') });
    expect(stdout).toContain(path.split('/').at(-1));
    await put(bytes);
    expect(larder('verify', '--deep').status).toBe(0);
  });

  it('says what is wrong with a place that cannot be had', () => {
    const [place, query] = env.LARDER_REPOSITORY!.split('?') as [string, string];
    const ask = (repository: string, more: NodeJS.ProcessEnv = {}) => {
      const words = Object.entries(more).map(([name, value]) => `${name}='${value}'`);
      return shell(`${words.join(' ')} larder --repository '${repository}' list`);
    };
    const nowhere = ask(`s3://no-such-bucket/x?${query}`);
    expect(nowhere).toMatchObject({ status: 3, stderr: expect.stringContaining('no-such-bucket') });
    const shut = ask(env.LARDER_REPOSITORY!, { AWS_SECRET_ACCESS_KEY: 'wrong' });
    expect(shut.status).toBe(1);
    expect(shut.stderr).toMatch(/credentials|access|secret/i);
    expect(shut.stderr).not.toMatch(/\n\s+at /);
    const silent = ask(`${place}?endpoint=http://127.0.0.1:1&path-style=true&region=us-east-1`);
    expect(silent).toMatchObject({ status: 1, stderr: expect.stringContaining('127.0.0.1:1') });
    const mistaken = ask(`${env.LARDER_REPOSITORY}&pathstyle=true`);
    expect(mistaken).toMatchObject({ status: 2, stderr: expect.stringContaining("'path-style'") });
  });

  it('reads a mounted version from S3, and without S3 what was read before', async ({ skip }) => {
    if (!canMount) skip();
    try {
      ok('mount', 'birds', at('mounted'));
      expect(shell('diff -r source mounted')).toMatchObject({ status: 0, stdout: '' });
      await server.stop();
      expect(larder('list').status).toBe(1);
      shell('echo 3 > /proc/sys/vm/drop_caches');
      expect(shell('diff -r source mounted')).toMatchObject({ status: 0, stdout: '' });
      await server.restart();
      expect(documents('status')).toMatchObject([{ volumes: [{ dataset: 'birds', kind: 'pinned' }] }]);
      ok('unmount', at('mounted'));
    } finally {
      const { status, stdout } = larder('status', '--json');
      if (status === 0) {
        const { pid, keeperPid } = JSON.parse(stdout) as { pid: number; keeperPid?: number };
        larder('unmount', at('mounted'));
        process.kill(pid, 'SIGTERM');
        if (keeperPid !== undefined) process.kill(keeperPid, 'SIGTERM');
      }
    }
  });

  it('deletes a dataset', () => {
    expect(larder('delete', 'birds').status).toBe(2);
    expect(documents('delete', 'birds', '--yes')).toMatchObject([{ dataset: 'birds', deleted: true }]);
    expect(documents('list')).toEqual([]);
  });
});
