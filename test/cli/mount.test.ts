import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canMount } from '../support/privilege.ts';
import { createWorld } from './support.ts';

const { directory, larder, ok, documents, shell } = createWorld();
const source = join(directory, 'source');
const at = (name: string) => join(directory, name);

beforeAll(() => {
  mkdirSync(join(source, 'train'), { recursive: true });
  for (let index = 0; index < 50; index++) {
    writeFileSync(join(source, 'train', `${index}.txt`), `${index} `.repeat(1000));
  }
  writeFileSync(join(source, 'labels.csv'), 'file,class\n');
  ok('repository', 'init');
  ok('import', source, 'numbers', '--tag', 'v1');
});

describe('without a daemon', () => {
  it('what needs one says which command starts it', () => {
    for (const args of [['status'], ['unmount', source], ['cache', 'show'], ['snapshot', 'create', source]]) {
      expect(larder(...args)).toMatchObject({
        status: 1,
        stdout: '',
        stderr: expect.stringContaining("'larder mount'"),
      });
    }
  });

  it('the controller asks for its socket', () => {
    expect(larder('controller', 'serve')).toMatchObject({ status: 2, stderr: expect.stringContaining('CSI_ENDPOINT') });
  });
});

describe.skipIf(!canMount)('mounts', () => {
  afterAll(() => {
    const status = larder('status', '--json');
    if (status.status !== 0) return;
    const { pid, keeperPid, volumes } = JSON.parse(status.stdout) as {
      pid: number;
      keeperPid?: number;
      volumes: { directory: string }[];
    };
    for (const volume of volumes) larder('unmount', volume.directory, '--discard');
    process.kill(pid, 'SIGTERM');
    if (keeperPid !== undefined) process.kill(keeperPid, 'SIGTERM');
  });

  it('start the daemon, and read like the directory that was imported', () => {
    const [mounted] = documents('mount', 'numbers@v1', at('pinned'));
    expect(mounted).toMatchObject({ kind: 'pinned', directory: at('pinned'), dataset: 'numbers' });
    expect(shell(`diff -r source pinned`)).toMatchObject({ status: 0, stdout: '' });
    expect(() => writeFileSync(join(at('pinned'), 'new'), '')).toThrow('EROFS');
    expect(ok('mount', 'numbers@v1', at('pinned'))).toMatch(/^numbers@[0-9a-f]{12} is mounted on .*pinned\n$/);
  });

  it('are listed, with the daemon that serves them', () => {
    const [status] = documents('status');
    expect(status).toMatchObject({
      cache: at('cache'),
      runtime: at('run'),
      keeper: true,
      volumes: [{ directory: at('pinned'), kind: 'pinned', dataset: 'numbers', repository: at('repository') }],
    });
    expect(ok('status')).toContain(`${at('pinned')}  numbers@`);
  });

  it('of a workspace take changes, of which a snapshot makes a version', () => {
    expect(ok('mount', 'numbers', at('work'), '--workspace', '--capacity', '400M')).toContain('writable');
    writeFileSync(join(at('work'), 'labels.csv'), 'file,class\n0.txt,zero\n');
    const out = ok('snapshot', 'create', at('work'), '-m', 'labelled');
    const [id, summary] = out.split('\n');
    expect(id).toMatch(/^[0-9a-f]{64}$/);
    expect(summary).toMatch(/^numbers@snapshot-\S+: 1 file and 22 B read, .* writers waited /);
    expect(documents('diff', `numbers@${id!.slice(0, 12)}`)).toMatchObject([
      { path: 'labels.csv', change: 'modified' },
      { summary: { added: 0, modified: 1, removed: 0 } },
    ]);
    const snapshots = documents('snapshot', 'list', 'numbers');
    expect(snapshots).toMatchObject([{ dataset: 'numbers', version: id, message: 'labelled' }]);
    expect(documents('snapshot', 'list', at('work'))).toEqual(snapshots);
    expect(ok('snapshot', 'list')).toMatch(/^SNAPSHOT .*\nnumbers@snapshot-/);
  });

  it('of a snapshot go on from it', () => {
    const [{ tag }] = documents('snapshot', 'list') as [{ tag: string }];
    ok('snapshot', 'restore', `numbers@${tag}`, at('again'), '--capacity', '400M');
    expect(readFileSync(join(at('again'), 'labels.csv'), 'utf8')).toContain('zero');
    writeFileSync(join(at('again'), 'more'), 'more');
    ok('unmount', at('again'), '--discard');
    expect(documents('snapshot', 'delete', `numbers@${tag}`)).toEqual([{ dataset: 'numbers', tag, deleted: true }]);
    expect(documents('snapshot', 'list')).toEqual([]);
    expect(larder('snapshot', 'delete', `numbers@${tag}`).status).toBe(3);
    expect(larder('snapshot', 'delete', 'numbers').status).toBe(2);
  });

  it('can make a branch move', () => {
    const [snapshot] = documents('snapshot', 'create', at('work'), '--branch', 'main', '--tag', 'labelled');
    expect(documents('show', 'numbers')).toMatchObject([{ version: snapshot!.version }]);
    expect(documents('show', 'numbers@labelled')).toMatchObject([{ version: snapshot!.version }]);
  });

  it('fill the cache, which shows, keeps, checks and frees what it holds', () => {
    expect(documents('prefetch', 'numbers@v1')).toMatchObject([{ dataset: 'numbers', files: expect.any(Number) }]);
    const [contents] = documents('cache', 'show');
    expect(contents).toMatchObject({ directory: at('cache') });
    expect(contents!.objects).toBeGreaterThanOrEqual(50);
    expect(ok('cache', 'show')).toMatch(/VERSION +FILES +CACHED +SIZE +CACHED +ALONE +STATE\nnumbers@/);
    expect(documents('cache', 'pin', 'numbers@v1')).toMatchObject([{ dataset: 'numbers', pinned: true }]);
    expect(ok('cache', 'show')).toContain('pinned');
    expect(documents('cache', 'unpin', 'numbers@v1')).toMatchObject([{ pinned: false }]);
    expect(documents('cache', 'verify')).toMatchObject([{ damaged: [] }]);
    expect(documents('cache', 'evict', '--dry-run')).toMatchObject([{ dryRun: true }]);
    expect(ok('cache', 'evict', '1G')).toMatch(/^freed .* in \d+ objects?\n$/);
  });

  it('tell what limits the cache and what each dataset takes, and let that be changed', () => {
    const space = {
      minFree: expect.any(Number),
      held: expect.any(Number),
      room: expect.any(Number),
      diskBytes: expect.any(Number),
      diskFree: expect.any(Number),
    };
    const share = {
      cachedFiles: expect.any(Number),
      cachedBytes: expect.any(Number),
      aloneBytes: expect.any(Number),
      sharedBytes: expect.any(Number),
    };
    ok('prefetch', 'numbers@v1');
    const [contents] = documents('cache', 'show') as [Record<'datasets' | 'versions', Record<string, unknown>[]>];
    expect(contents).toMatchObject({ ...space, unknownObjects: 0, unknownBytes: 0 });
    expect(contents).not.toHaveProperty('limit');
    const repository = at('repository');
    expect(contents.datasets).toEqual([
      { repository, dataset: 'numbers', versions: contents.versions.length, ...share },
    ]);
    for (const version of contents.versions) {
      expect(version).toEqual({
        repository,
        dataset: 'numbers',
        version: expect.stringMatching(/^[0-9a-f]{64}$/),
        staged: expect.any(Boolean),
        pinned: false,
        lastStaged: expect.stringMatching(/^\d{4}-.*Z$/),
        files: expect.any(Number),
        bytes: expect.any(Number),
        ...share,
      });
    }
    expect(documents('cache', 'limit', '90%', '--min-free', '1G')).toMatchObject([
      { ...space, limit: expect.any(Number), minFree: 2 ** 30 },
    ]);
    expect(ok('cache', 'limit')).toMatch(/^.* on the disk, limit .*; .* free, 1\.00 GiB stay so\n$/);
    expect(documents('cache', 'limit', 'none')[0]).not.toHaveProperty('limit');
    expect(larder('cache', 'limit', 'half').status).toBe(2);
    expect(larder('cache', 'evict', '--dataset', 'numbers', '--only', 'numbers').status).toBe(2);
    expect(larder('cache', 'evict', '--dataset', 'letters').status).toBe(3);
    expect(documents('cache', 'evict', '--dataset', 'numbers', '--mounted')).toMatchObject([
      { dryRun: false, objects: expect.any(Number), freed: expect.any(Number) },
    ]);
    expect(documents('cache', 'show')).toMatchObject([{ objects: 0, bytes: 0 }]);
    expect(readFileSync(join(at('pinned'), 'labels.csv'), 'utf8')).toBe('file,class\n');
  });

  it('suggest the nearest name, and refuse a path that is taken', () => {
    expect(larder('mount', 'number', at('x'))).toMatchObject({
      status: 3,
      stderr: expect.stringContaining("did you mean 'numbers'?"),
    });
    expect(larder('mount', 'numbers@main', at('pinned')).status).toBe(4);
    expect(larder('mount', 'numbers', join(at('nowhere'), 'deep')).status).toBe(3);
  });

  it('go when they are told to, and once', () => {
    for (const name of ['pinned', 'work']) {
      expect(documents('unmount', at(name))).toMatchObject([{ directory: at(name), unmounted: true, heldBy: [] }]);
      expect(existsSync(join(at(name), 'labels.csv'))).toBe(false);
    }
    expect(larder('unmount', at('work'))).toMatchObject({
      status: 3,
      stderr: expect.stringContaining("'larder status'"),
    });
    expect(documents('status')).toMatchObject([{ volumes: [] }]);
  });

  it('as a workspace again find its changes, until they are dropped', () => {
    ok('mount', 'numbers@v1', at('kept'), '--workspace', '--capacity', '400M');
    writeFileSync(join(at('kept'), 'mine'), 'mine');
    ok('unmount', at('kept'));
    ok('mount', 'numbers@v1', at('kept'), '--workspace', '--capacity', '400M');
    expect(readFileSync(join(at('kept'), 'mine'), 'utf8')).toBe('mine');
    ok('unmount', at('kept'), '--discard');
    ok('mount', 'numbers@v1', at('kept'), '--workspace', '--capacity', '400M');
    expect(existsSync(join(at('kept'), 'mine'))).toBe(false);
  });
});
