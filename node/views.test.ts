import { execFile } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { importDirectory } from '../dataset/import.ts';
import { initRepository, type Repository } from '../dataset/repository.ts';
import type { Version } from '../dataset/version.ts';
import { canMount } from '../test/support/privilege.ts';
import { silentLogger } from './log.ts';
import { type Node, openNode } from './node.ts';
import type { View, VolumeKind } from './service-types.ts';

const run = promisify(execFile);

const BIG = 'some bytes '.repeat(1000);

describe.skipIf(!canMount)('volumes of one version with several views', () => {
  let stack: AsyncDisposableStack;
  let folder: string;
  let repository: Repository;
  let version: Version;
  const state = process.env.LARDER_STATE;

  beforeEach(async () => {
    stack = new AsyncDisposableStack();
    folder = mkdtempSync(join(tmpdir(), 'larder-node-views-'));
    chmodSync(folder, 0o755);
    stack.defer(() => rmSync(folder, { recursive: true, force: true }));
    process.env.LARDER_STATE = join(folder, 'state');
    const source = join(folder, 'source');
    mkdirSync(source);
    for (const name of ['one', 'two']) writeFileSync(join(source, name), `${BIG}${name}`);
    for (const name of ['one', 'two', '']) chownSync(join(source, name), 7, 8);
    for (const name of ['one', 'two']) chmodSync(join(source, name), 0o600);
    chmodSync(source, 0o700);
    repository = await initRepository(join(folder, 'repository'));
    stack.defer(() => repository.bucket.close());
    const about = { repository, source, dataset: 'd', branch: 'main', message: '', author: 'a test' };
    version = (await importDirectory(about)).version;
  });
  afterEach(async () => {
    await stack.disposeAsync();
    if (state === undefined) delete process.env.LARDER_STATE;
    else process.env.LARDER_STATE = state;
  });

  const start = (): Promise<Node> =>
    openNode({ runtime: join(folder, 'run'), cache: join(folder, 'cache'), deadline: 20_000, log: silentLogger });

  const placeOf = (volume: string) => join(folder, `at-${volume}`);

  async function stage(node: Node, volume: string, view?: View, kind: VolumeKind = 'pinned'): Promise<string> {
    const stagingPath = placeOf(volume);
    const about = { volume, dataset: 'd', version: version.id, kind, stagingPath, repository: repository.location };
    await node.volumes.stage({ ...about, ...(view && { view }) });
    return stagingPath;
  }

  const unstage = (node: Node, volume: string) => node.volumes.unstage(volume, placeOf(volume));

  const shown = (path: string) => {
    const { mode, uid, gid } = lstatSync(path);
    return `${(mode & 0o7777).toString(8)} ${uid}:${gid}`;
  };

  /** Beside this process, which serves what is read. */
  const as = async (uid: number, group: number, script: string, cwd: string) => {
    const rights = ['--reuid', `${uid}`, '--regid', `${uid}`, '--groups', `${group}`];
    return (await run('setpriv', [...rights, 'sh', '-ec', script], { cwd })).stdout;
  };

  const mounted = () => (existsSync(join(folder, 'run/images')) ? readdirSync(join(folder, 'run/images')).sort() : []);
  const images = () => readdirSync(join(folder, 'cache/images')).sort();

  it('show what each asks for, and share all but their images', async () => {
    const { root } = version;
    let node = await start();
    const plain = await stage(node, 'plain');
    const owned = await stage(node, 'owned', { uid: 1000, mode: 0o750 });
    const group = await stage(node, 'group', { mountGroup: 2000 });
    const same = await stage(node, 'same', { mountGroup: 2000, gid: 5 });
    expect([plain, owned, group, same].map((at) => [shown(at), shown(join(at, 'one'))])).toEqual([
      ['700 7:8', '600 7:8'],
      ['750 1000:8', '640 1000:8'],
      ['2770 7:2000', '660 7:2000'],
      ['2770 7:2000', '660 7:2000'],
    ]);
    expect(await as(1000, 1000, 'cat one', owned)).toBe(`${BIG}one`);
    expect(await as(1001, 2000, 'cat two', group)).toBe(`${BIG}two`);
    await expect(as(1001, 2000, 'cat one', owned)).rejects.toThrow(/denied/);
    expect(await readFile(join(plain, 'two'), 'utf8')).toBe(`${BIG}two`);
    const all = [root, `${root}.f2000`, `${root}.u1000-m750`];
    expect(mounted()).toEqual(all);
    expect(images()).toEqual([...all.map((name) => `${name}.erofs`), `${root}.map`].sort());
    expect(node.versions.sources()).toHaveLength(1);

    await unstage(node, 'owned');
    await unstage(node, 'same');
    expect(mounted()).toEqual([root, `${root}.f2000`]);
    await expect(stage(node, 'group', { mountGroup: 2001 })).rejects.toMatchObject({ kind: 'conflict' });
    await stage(node, 'group', { mountGroup: 2000 });

    // Another daemon knows what is mounted, and keeps it.
    await node.close();
    node = await start();
    expect(mounted()).toEqual([root, `${root}.f2000`]);
    expect(await as(1001, 2000, 'cat one', group)).toBe(`${BIG}one`);
    await unstage(node, 'plain');
    await unstage(node, 'group');
    expect(mounted()).toEqual([]);
    expect(images()).toHaveLength(4);
    await node.versions.forget({ version: version.id, root });
    expect(images()).toEqual([]);
    await node.close();
  });

  it('need no repository where their image and its map are there', async () => {
    const node = await start();
    stack.defer(() => node.close());
    await stage(node, 'one', { mountGroup: 2000 });
    await unstage(node, 'one');
    const map = join(folder, 'cache/images', `${version.root}.map`);
    const { mtimeMs } = lstatSync(map);
    const two = await stage(node, 'two', { uid: 5 });
    expect(shown(join(two, 'one'))).toBe('600 5:8');
    // A further image is made; the map is that of the first.
    expect(lstatSync(map).mtimeMs).toBe(mtimeMs);
    await node.versions.renew(version.root);
    expect(lstatSync(map).mtimeMs).not.toBe(mtimeMs);
    expect(images()).not.toContain(`${version.root}.erofs`);
    await unstage(node, 'two');
  });

  it('leave some images behind, and not one for each group that there ever was', async () => {
    const node = await start();
    stack.defer(() => node.close());
    await stage(node, 'stays', { mountGroup: 100 });
    for (let group = 101; group < 113; group += 1) {
      await stage(node, 'v', { mountGroup: group });
      await unstage(node, 'v');
    }
    const left = [100, 104, 105, 106, 107, 108, 109, 110, 111, 112].map((group) => `${version.root}.f${group}.erofs`);
    expect(images().filter((name) => name.endsWith('.erofs'))).toEqual(left);
    await unstage(node, 'stays');
  });

  it('may be workspaces, whose files go from one group to another', async () => {
    const node = await start();
    stack.defer(() => node.close());
    const at = await stage(node, 'w', { mountGroup: 2000 }, 'workspace');
    await as(1000, 2000, 'echo more >> one; mkdir new; echo x > new/x', at);
    await unstage(node, 'w');
    await stage(node, 'w', { mountGroup: 3000 }, 'workspace');
    await expect(as(1000, 2000, 'cat one', at)).rejects.toThrow(/denied/);
    expect(await as(1001, 3000, 'echo y >> new/x; tail -c 5 one; cat new/x', at)).toBe('more\nx\ny\n');
    expect(shown(join(at, 'new/x'))).toBe('664 1000:3000');
    await unstage(node, 'w');
    await stage(node, 'w', undefined, 'workspace');
    expect([at, join(at, 'one'), join(at, 'new')].map(shown)).toEqual(['700 7:8', '600 7:8', '775 1000:8']);
    await unstage(node, 'w');
  });
});
