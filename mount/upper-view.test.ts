import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, lstatSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { bytesOf, textOf } from '../dataset/byte-string.ts';
import { commitChanges, readingPool } from '../dataset/commit.ts';
import type { Digest } from '../dataset/digest.ts';
import type { DirectoryEntry, Entry } from '../dataset/entry.ts';
import { importDirectory } from '../dataset/import.ts';
import { readEntries } from '../dataset/manifest.ts';
import { initRepository, type Repository } from '../dataset/repository.ts';
import { readVersion, type Version } from '../dataset/version.ts';
import { llistxattr } from '../system/calls.ts';
import { canMount } from '../test/support/privilege.ts';
import { type SmallDisk, smallDisk } from '../test/support/small-disk.ts';
import { baseTree } from './base-tree.ts';
import { Editor, growing, randomOf } from './editor.fixture.ts';
import { writeImage } from './erofs/image.ts';
import { mountImage } from './image-mount.ts';
import { mountOverlay } from './overlay.ts';
import { saveWorkspace } from './save/engine.ts';
import { openSaveIndex } from './save/index.ts';
import { dump, scanTree, storeObject } from './tree.fixture.ts';
import { cleanLeftovers, unmount } from './unmount.ts';
import { upperChanges } from './upper.ts';
import { readUpperView, writeUpperView } from './upper-view.ts';
import { DEFAULT_ACL, type View, viewName } from './view.ts';
import { createWorkspaceImage, MIN_WORKSPACE_BYTES, mountWorkspace } from './workspace.ts';

let dir: string;
let disk: SmallDisk;
let repository: Repository;
let pool: ReturnType<typeof readingPool>;
let count = 0;
const state = process.env.LARDER_STATE;

beforeAll(async () => {
  if (!canMount) return;
  dir = mkdtempSync(join(tmpdir(), 'larder-views-'));
  // Users without rights go through it.
  chmodSync(dir, 0o755);
  process.env.LARDER_STATE = join(dir, 'state');
  disk = await smallDisk({ type: 'xfs', bytes: 2 ** 30 });
  repository = await initRepository(join(dir, 'repository'));
  pool = readingPool();
});

afterEach(async () => {
  if (canMount) await cleanLeftovers(dir);
});

afterAll(async () => {
  if (!canMount) return;
  if (state === undefined) delete process.env.LARDER_STATE;
  else process.env.LARDER_STATE = state;
  await pool[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true });
  await disk[Symbol.asyncDispose]();
});

interface Base {
  readonly at: (name: string) => string;
  readonly entries: Entry[];
  readonly version: Version;
  readonly dataset: string;
}

/** A version of what `fill` writes. */
async function versionOf(fill: (directory: string) => void): Promise<Base> {
  count += 1;
  const folder = join(dir, String(count));
  const at = (name: string) => join(folder, name);
  for (const name of ['plain', 'objects', 'wait', 'late', 'fault']) mkdirSync(at(name), { recursive: true });
  fill(at('plain'));
  const entries = scanTree(at('plain'), (content, data) => storeObject(at('objects'), content, data));
  const dataset = `d${count}`;
  const about = { repository, dataset, author: 'test', message: '', source: at('plain'), branch: 'main' };
  const { version } = await importDirectory(about);
  return { at, entries, version, dataset };
}

/** A workspace of a version, mounted with one view after the other. */
async function workspaceOn(base: Base, name = 'one') {
  const { entries, version: lower, dataset } = base;
  const at = (what: string) => join(base.at(name), what);
  for (const what of ['image', 'target', 'disk']) mkdirSync(at(what), { recursive: true });
  const place = { file: join(disk.directory, `${count}-${name}.xfs`), at: at('disk') };
  await createWorkspaceImage({ file: place.file, capacity: MIN_WORKSPACE_BYTES });
  const upper = at('disk/upper');
  const target = at('target');
  const index = openSaveIndex(at('saves.db'));
  const commit = { repository, dataset, author: 'test', message: '', parents: [lower.id], pool };
  let last: Version | undefined;
  const leave = async () => {
    await unmount(target);
    await unmount(at('disk'));
    await unmount(at('image'));
  };
  return {
    target,
    upper,
    async mount(view?: View) {
      await leave();
      const image = at(`tree-${viewName(view)}.erofs`);
      await writeImage({ entries: [entries], file: image, view });
      await mountImage({ file: image, at: at('image') });
      const writable = await mountWorkspace({ ...place, root: entries[0] as DirectoryEntry, view });
      const [objects, wait, late, fault] = [base.at('objects'), base.at('wait'), base.at('late'), base.at('fault')];
      const layers = { image: at('image'), objects, wait, late, fault };
      await mountOverlay({ layers, target, name: `view${count}`, writable });
    },
    /** Saves what changed since the last one. */
    async save() {
      await sleep(30);
      const result = await saveWorkspace({ place, lower, last, index, commit });
      if (result.outcome === 'created') last = await readVersion(repository, result.version.id);
      result.keep();
      return result;
    },
    /** Of a commit of all that the upper layer holds. */
    async fullRoot() {
      const changes = upperChanges({ upper: bytesOf(upper), base: baseTree(repository, lower.root) });
      return (await commitChanges({ ...commit, base: lower, changes })).version.root;
    },
  };
}

async function entriesOf(root: Digest): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const batch of readEntries(repository, root)) entries.push(...batch);
  return entries;
}

/** Path to mode and owner, as a version has them. */
async function ownersIn(root: Digest): Promise<Record<string, string>> {
  return Object.fromEntries(
    (await entriesOf(root)).map(({ path, mode, uid, gid }) => [textOf(path), `${mode.toString(8)} ${uid}:${gid}`]),
  );
}

/** The same, as the kernel shows it. */
function shown(directory: string, ...paths: string[]): string[] {
  return paths.map((path) => {
    const { mode, uid, gid } = lstatSync(join(directory, path));
    return `${(mode & 0o7777).toString(8)} ${uid}:${gid}`;
  });
}

/** Runs a shell's commands in a directory as somebody else, whose new files nobody else may write. */
function as(user: { uid: number; gid: number; groups?: number[] }, cwd: string, script: string): string {
  const { uid, gid, groups = [] } = user;
  const rights = groups.length === 0 ? ['--clear-groups'] : ['--groups', groups.join()];
  const setpriv = ['--reuid', `${uid}`, '--regid', `${gid}`, ...rights, 'sh', '-ec', `umask 022; ${script}`];
  return execFileSync('setpriv', setpriv, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

const big = (text: string) => text.repeat(500);

/** A dataset of user 7 and group 8, that others may hardly read. */
function fillOwned(directory: string): void {
  for (const name of ['data', 'data/deep', 'set']) mkdirSync(join(directory, name));
  for (const name of ['data/one', 'data/two', 'data/three', 'data/deep/four', 'set/five'])
    writeFileSync(join(directory, name), big(name));
  writeFileSync(join(directory, 'data/tool'), '#!/bin/sh\necho tool\n');
  execFileSync('ln', ['-s', 'one', join(directory, 'data/link')]);
  execFileSync('chown', ['-hR', '7:8', directory]);
  execFileSync('chmod', ['-R', 'u=rwX,g=,o=', directory]);
  chmodSync(join(directory, 'data/tool'), 0o700);
  chmodSync(join(directory, 'set'), 0o2750);
  // Where new files belong to.
  chownSync(directory, 70, 80);
  chmodSync(directory, 0o700);
}

const pod = { uid: 1000, gid: 1000, groups: [2000] };
const other = { uid: 1001, gid: 1001, groups: [2000] };
const stranger = { uid: 1002, gid: 1002 };

describe.skipIf(!canMount)('a workspace that is seen through a view', () => {
  it('is read and written by who is in its group, and by nobody else', async () => {
    const { target, mount } = await workspaceOn(await versionOf(fillOwned));
    await mount({ mountGroup: 2000 });
    expect(shown(target, '', 'data', 'data/one', 'data/tool', 'data/link', 'set')).toEqual([
      '2770 70:2000',
      '2770 7:2000',
      '660 7:2000',
      '770 7:2000',
      '777 7:2000',
      '2770 7:2000',
    ]);
    expect(as(pod, target, 'cat data/link; data/tool')).toBe(`${big('data/one')}tool\n`);
    as(pod, target, 'echo more >> data/one; mkdir -p new/deep; echo new > new/deep/file; echo x > data/x');
    expect(shown(target, 'new', 'new/deep', 'new/deep/file', 'data/x')).toEqual([
      '2775 1000:2000',
      '2775 1000:2000',
      '664 1000:2000',
      '664 1000:2000',
    ]);
    as(other, target, 'echo and >> new/deep/file; echo and >> data/x; mv data/x new/deep; rm data/two');
    expect(as(pod, target, 'cat new/deep/file new/deep/x')).toBe('new\nand\nx\nand\n');
    for (const script of ['ls', 'cat data/one', 'echo x > data/one'])
      expect(() => as(stranger, target, script), script).toThrow(/Permission denied/);
  });

  it('is saved with the owners of the dataset, whatever was done to it', async () => {
    const base = await versionOf(fillOwned);
    const { target, mount, save, fullRoot } = await workspaceOn(base);
    await mount({ uid: 1000, mountGroup: 2000 });
    const before = await ownersIn(base.version.root);
    as(pod, target, 'echo more >> data/one; mkdir new; echo x > new/file; echo x > set/six; mkdir set/sub');
    as(pod, target, 'echo more >> data/three; mv data/three data/renamed; mv data/deep moved; touch data/link');
    const first = await save();
    const { 'data/three': three, 'data/deep': deep, 'data/deep/four': four, ...rest } = before;
    const expected = {
      ...rest,
      'data/renamed': three,
      moved: deep,
      'moved/four': four,
      new: '775 70:80',
      'new/file': '664 70:80',
      'set/six': '664 70:80',
      'set/sub': '775 70:80',
    };
    expect(await ownersIn(first.version.root)).toEqual(expected);
    // What somebody asks for counts, and only that.
    as(
      pod,
      target,
      'chmod u+x data/one; chmod 400 data/renamed; chmod o+r moved; echo x > new/file; echo more >> data/two',
    );
    chownSync(join(target, 'data/link'), 5, 6);
    chownSync(join(target, 'data/tool'), 5, 2000);
    const second = await save();
    expect(second).toMatchObject({ walk: 'changes' });
    expect(second.version.root).toBe(await fullRoot());
    expect(await ownersIn(second.version.root)).toEqual({
      ...expected,
      'data/one': '700 5:6',
      'data/renamed': '400 7:8',
      moved: '704 7:8',
      'data/tool': '700 5:8',
    });
  });

  it('takes another view with all that it holds, also where that was cut short', async () => {
    const base = await versionOf(fillOwned);
    const { target, upper, mount, save } = await workspaceOn(base);
    await mount({ mountGroup: 2000 });
    as(
      pod,
      target,
      'echo more >> data/one; mkdir new; echo x > new/file; rm data/two; mkdir set/sub; ln -s x set/sub/link',
    );
    // Copied up without its data.
    chownSync(join(target, 'data/deep/four'), 5, 6);
    as(pod, target, 'mv data/deep data/deeper');
    const { version } = await save();
    const owners = await ownersIn(version.root);
    expect(owners).toMatchObject({ 'data/deeper/four': '600 5:6', 'data/deeper': '700 7:8' });
    const next = { uid: 1001, mountGroup: 3000 };
    // As it is where a node died half way.
    await unmount(target);
    const kept = readUpperView(bytesOf(upper))!;
    writeUpperView(bytesOf(upper), { ...kept, views: [next, ...kept.views] });
    chownSync(join(upper, 'data/one'), 1001, 3000);
    await mount(next);
    expect(shown(target, '', 'data/one', 'data/three', 'new', 'new/file', 'set/sub')).toEqual([
      '2770 1001:3000',
      '660 1001:3000',
      '660 1001:3000',
      '2775 1001:3000',
      '664 1001:3000',
      '2775 1001:3000',
    ]);
    const [member, outsider] = [{ ...pod, groups: [3000] }, pod];
    as(member, target, 'echo more >> new/file; echo more >> data/one; echo y > set/sub/y');
    expect(as(member, target, 'cat data/deeper/four')).toBe(big('data/deep/four'));
    expect(() => as(outsider, target, 'cat new/file')).toThrow(/Permission denied/);
    const second = await save();
    expect(await ownersIn(second.version.root)).toEqual({ ...owners, 'set/sub/y': '664 1000:80' });
    await mount();
    expect(Object.values(await ownersIn(second.version.root))).toEqual(
      shown(target, ...Object.keys(await ownersIn(second.version.root))),
    );
    expect((await save()).version.root).toBe(second.version.root);
    for (const path of ['', 'new', 'set/sub']) expect(llistxattr(join(target, path))).not.toContain(DEFAULT_ACL);
    await mount({ uid: 4 });
    expect((await save()).version.root).toBe(second.version.root);
  });

  it('takes another view also where it is full', async () => {
    const { target, mount, save } = await workspaceOn(await versionOf(fillOwned));
    await mount({ mountGroup: 2000 });
    as(pod, target, 'mkdir new; for i in $(seq 50); do mkdir new/$i; echo x > new/$i/file; done');
    as(
      pod,
      target,
      'dd if=/dev/zero of=fill bs=1M 2> log || for i in $(seq 200); do echo x > new/fill$i || break; done 2> log',
    );
    expect(() => as(pod, target, 'head -c 1000000 /dev/zero > new/another')).toThrow(/No space/);
    const { version } = await save();
    await mount({ uid: 1001, mountGroup: 3000, mode: 0o700 });
    expect(shown(target, 'new', 'new/50', 'new/50/file', 'fill')).toEqual([
      '2770 1001:3000',
      '2770 1001:3000',
      '660 1001:3000',
      '660 1001:3000',
    ]);
    expect(await ownersIn((await save()).version.root)).toEqual(await ownersIn(version.root));
  });

  it('is saved as one without a view after the same random edits', { timeout: 600_000 }, async () => {
    const first = Number(process.env.LARDER_TEST_SEED ?? 1);
    for (let seed = first; seed < first + Number(process.env.LARDER_TEST_RUNS ?? 3); seed += 1) {
      const random = randomOf(seed);
      const base = await versionOf((directory) => {
        const editor = new Editor(random, [directory]);
        for (let i = 0; i < 60; i += 1) editor.edit(growing.filter((kind) => kind !== 'chmod'));
        for (const { path, type } of scanTree(directory)) {
          if (path === '' || type === 'symlink') continue;
          chownSync(Buffer.from(`${directory}/${path}`, 'latin1'), random(5), random(5));
          chmodSync(Buffer.from(`${directory}/${path}`, 'latin1'), random(0o1000) | 0o600);
        }
      });
      const [viewed, plain] = [await workspaceOn(base, 'viewed'), await workspaceOn(base, 'plain')];
      await viewed.mount({ uid: 3, mountGroup: 4, ...(seed % 2 === 0 && { mode: 0o700 }) });
      await plain.mount();
      const editor = new Editor(random, [plain.target, viewed.target], ['chmod', 'chown']);
      const exact = { times: false, links: true };
      for (let round = 0; round < 3; round += 1) {
        for (let i = 0; i < 15; i += 1) editor.edit();
        const saved = await viewed.save();
        const [one, two] = [await entriesOf(saved.version.root), await entriesOf(await plain.fullRoot())];
        expect(dump(one.map(withoutGroup), exact), `seed ${seed}, round ${round}`).toEqual(
          dump(two.map(withoutGroup), exact),
        );
        expect(saved.version.root).toBe(await viewed.fullRoot());
      }
    }
  });
});

/** Root's new files, which the group may write where the volume belongs to one. */
function withoutGroup(entry: Entry): Entry {
  const isAsNew = entry.uid === 0 && entry.gid === 0 && (entry.mode === 0o664 || entry.mode === 0o775);
  return isAsNew ? { ...entry, mode: entry.mode & ~0o20 } : entry;
}
