import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { bytesOf } from '../../dataset/byte-string.ts';
import { commitChanges, readingPool } from '../../dataset/commit.ts';
import type { DirectoryEntry, Entry } from '../../dataset/entry.ts';
import { importDirectory } from '../../dataset/import.ts';
import { readEntries } from '../../dataset/manifest.ts';
import { initRepository, type Repository } from '../../dataset/repository.ts';
import { readVersion, type Version } from '../../dataset/version.ts';
import { canMount } from '../../test/support/privilege.ts';
import { type SmallDisk, smallDisk } from '../../test/support/small-disk.ts';
import { baseTree } from '../base-tree.ts';
import { Editor, growing, randomOf } from '../editor.fixture.ts';
import { writeImage } from '../erofs/image.ts';
import { mountImage } from '../image-mount.ts';
import { mountOverlay } from '../overlay.ts';
import { dump, scanTree, storeObject } from '../tree.fixture.ts';
import { cleanLeftovers } from '../unmount.ts';
import { upperChanges } from '../upper.ts';
import { createWorkspaceImage, MIN_WORKSPACE_BYTES, mountWorkspace } from '../workspace.ts';
import { type SaveResult, saveWorkspace } from './engine.ts';
import { openSaveIndex, type SaveIndex } from './index.ts';

let dir: string;
let disk: SmallDisk;
let repository: Repository;
let pool: ReturnType<typeof readingPool>;
let count = 0;
const state = process.env.LARDER_STATE;

beforeAll(async () => {
  if (!canMount) return;
  dir = mkdtempSync(join(tmpdir(), 'larder-save-'));
  process.env.LARDER_STATE = join(dir, 'state');
  disk = await smallDisk({ type: 'xfs', bytes: 3 * 2 ** 30 });
  repository = await initRepository(join(dir, 'repository'));
  pool = readingPool();
});

afterEach(async () => {
  if (!canMount) return;
  await cleanLeftovers(dir);
  for (const name of readdirSync(disk.directory)) rmSync(join(disk.directory, name));
});

afterAll(async () => {
  if (!canMount) return;
  if (state === undefined) delete process.env.LARDER_STATE;
  else process.env.LARDER_STATE = state;
  await pool[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true });
  await disk[Symbol.asyncDispose]();
});

interface Workspace {
  /** The mounted workspace. */
  readonly target: string;
  readonly upper: string;
  readonly lower: Version;
  readonly index: SaveIndex;
  /** Saves it; `lose`: as a save whose version got no name. */
  save(lose?: 'lose'): Promise<SaveResult>;
  /** The root of a commit of all that the upper layer holds. */
  fullRoot(): Promise<string>;
}

/** @param cache where its image is: with reflink, if not said */
async function workspaceOn(fill: (directory: string) => void, cache = disk.directory): Promise<Workspace> {
  count += 1;
  const at = (name: string) => join(dir, String(count), name);
  for (const name of ['plain', 'objects', 'wait', 'late', 'fault', 'image', 'target', 'disk'])
    mkdirSync(at(name), { recursive: true });
  fill(at('plain'));
  const base = scanTree(at('plain'), (content, data) => storeObject(at('objects'), content, data));
  const dataset = `d${count}`;
  const common = { repository, dataset, author: 'test', message: '' };
  const { version: lower } = await importDirectory({ ...common, source: at('plain'), branch: 'main' });
  await writeImage({ entries: [base], file: at('tree.erofs') });
  await mountImage({ file: at('tree.erofs'), at: at('image') });
  const place = { file: join(cache, `${count}.xfs`), at: at('disk') };
  await createWorkspaceImage({ file: place.file, capacity: MIN_WORKSPACE_BYTES });
  const writable = await mountWorkspace({ ...place, root: base[0] as DirectoryEntry });
  const [image, objects, wait, late, fault] = [at('image'), at('objects'), at('wait'), at('late'), at('fault')];
  const layers = { image, objects, wait, late, fault };
  await mountOverlay({ layers, target: at('target'), name: `save${count}`, writable });
  const index = openSaveIndex(at('saves.db'));
  const commit = { ...common, parents: [lower.id], pool };
  let last: Version | undefined;
  return {
    target: at('target'),
    upper: writable.upper,
    lower,
    index,
    async save(lose) {
      const result = await saveWorkspace({ place, lower, last, index, commit });
      if (result.outcome === 'created') {
        last = await readVersion(repository, result.version.id);
        if (lose === undefined) result.keep();
      }
      return result;
    },
    async fullRoot() {
      const changes = upperChanges({ upper: bytesOf(writable.upper), base: baseTree(repository, lower.root) });
      const { version } = await commitChanges({ ...commit, base: lower, changes });
      return version.root;
    },
  };
}

async function entriesOf(root: Version['root']): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const batch of readEntries(repository, root)) entries.push(...batch);
  return entries;
}

/** Longer than two ticks of the clock for files: what was written before is told by its time alone. */
const settle = () => sleep(30);

const big = (text: string) => text.repeat(500);

function fillSmall(directory: string): void {
  for (const name of ['a', 'a/sub', 'b', 'c']) mkdirSync(join(directory, name));
  for (const name of ['a/one', 'a/two', 'a/sub/three', 'b/four', 'b/five'])
    writeFileSync(join(directory, name), big(name));
}

describe.skipIf(!canMount)('a save of a workspace', () => {
  it('reads what was written since the last one, and no more', async () => {
    const { target, save, fullRoot } = await workspaceOn(fillSmall);
    for (let i = 0; i < 20; i += 1) writeFileSync(join(target, `c/${i}`), big(`${i}`));
    appendFileSync(join(target, 'a/one'), 'more');
    await settle();
    expect(await save()).toMatchObject({ outcome: 'created', walk: 'whole', filesRead: 21 });
    appendFileSync(join(target, 'c/7'), 'more');
    writeFileSync(join(target, 'b/new'), big('new'));
    unlinkSync(join(target, 'c/9'));
    await settle();
    const second = await save();
    expect(second).toMatchObject({ outcome: 'created', walk: 'changes', filesRead: 2 });
    expect(second.version.root).toBe(await fullRoot());
    expect(second.version.parents).toHaveLength(1);
  });

  it('writes no version where nothing was done, and makes no clone', async () => {
    const { target, save, lower } = await workspaceOn(fillSmall);
    const first = await save();
    expect(first).toMatchObject({ outcome: 'unchanged', version: { id: lower.id } });
    writeFileSync(join(target, 'c/x'), 'x');
    await settle();
    const { version } = await save();
    /** The log goes on by itself for a moment, and with times of reading: then nothing is mounted, and no version made. */
    const untilIdle = async () => {
      for (let tries = 0; tries < 5; tries += 1) {
        const { outcome, walk, version: same } = await save();
        expect(same.id).toBe(version.id);
        if (outcome === 'idle') return walk;
        expect({ outcome, walk }).toEqual({ outcome: 'unchanged', walk: 'changes' });
      }
      return 'never idle';
    };
    expect(await untilIdle()).toBe('none');
    execFileSync('cat', [join(target, 'c/x'), join(target, 'a/one')]);
    expect(await untilIdle()).toBe('none');
    writeFileSync(join(target, 'c/x'), 'x');
    await settle();
    expect((await save()).outcome).toBe('created');
  });

  it('reads nothing of a renamed directory, whether it is of the workspace or of the version', async () => {
    const { target, save, fullRoot } = await workspaceOn(fillSmall);
    mkdirSync(join(target, 'mine/deep'), { recursive: true });
    for (let i = 0; i < 30; i += 1) writeFileSync(join(target, `mine/deep/${i}`), big(`${i}`));
    await settle();
    await save();
    renameSync(join(target, 'mine'), join(target, 'b/yours'));
    renameSync(join(target, 'a'), join(target, 'z'));
    await settle();
    const second = await save();
    expect(second).toMatchObject({ outcome: 'created', walk: 'changes', filesRead: 0 });
    expect(second.version.root).toBe(await fullRoot());
    appendFileSync(join(target, 'b/yours/deep/3'), 'more');
    appendFileSync(join(target, 'z/one'), 'more');
    unlinkSync(join(target, 'z/two'));
    await settle();
    const third = await save();
    expect(third).toMatchObject({ walk: 'changes', filesRead: 2 });
    expect(third.version.root).toBe(await fullRoot());
  });

  it('reads nothing anew where its version got no name, and all where the index is gone', async () => {
    const { target, save, fullRoot, index } = await workspaceOn(fillSmall);
    for (let i = 0; i < 10; i += 1) writeFileSync(join(target, `c/${i}`), big(`${i}`));
    await settle();
    await save();
    appendFileSync(join(target, 'c/1'), 'more');
    await settle();
    expect(await save('lose')).toMatchObject({ outcome: 'created', filesRead: 1 });
    const again = await save();
    expect(again).toMatchObject({ outcome: 'unchanged', walk: 'whole', filesRead: 1 });
    index.clear();
    expect(await save()).toMatchObject({ outcome: 'unchanged', walk: 'whole', filesRead: 10 });
    expect(again.version.root).toBe(await fullRoot());
  });

  it('takes what was written within a tick of the cut again with the next one', async () => {
    const { target, save, fullRoot, upper } = await workspaceOn(fillSmall);
    writeFileSync(join(target, 'c/x'), big('x'));
    const first = await save();
    expect(first.filesRead).toBe(1);
    // No tick between: nothing tells of this one.
    writeFileSync(join(upper, 'c/x'), big('y'));
    const second = await save();
    expect(second.outcome).toBe('created');
    expect(second.version.root).toBe(await fullRoot());
  });

  it('knows what was changed through a mapping', async () => {
    const { target, save, fullRoot } = await workspaceOn(fillSmall);
    const file = join(target, 'c/mapped');
    writeFileSync(file, Buffer.alloc(64 << 10, 'a'));
    const program = `
import mmap, sys, time
f = open(sys.argv[1], 'r+b')
m = mmap.mmap(f.fileno(), 0)
print('ready', flush=True)
for line in sys.stdin:
    m[int(line)] = 0x62
    print('done', flush=True)
`;
    const writer = spawn('python3', ['-c', program, file], { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      await once(writer.stdout, 'data');
      for (const offset of [0, 1, 40_000, 2, 40_001]) {
        const done = once(writer.stdout, 'data');
        writer.stdin.write(`${offset}\n`);
        await done;
        await settle();
        const result = await save();
        expect(result.outcome).toBe('created');
        expect(result.version.root, `after the byte at ${offset}`).toBe(await fullRoot());
      }
    } finally {
      writer.kill('SIGKILL');
      await once(writer, 'exit');
    }
  });

  it('follows files of several names', async () => {
    const { target, save, fullRoot } = await workspaceOn(fillSmall);
    mkdirSync(join(target, 'm'));
    writeFileSync(join(target, 'm/x'), big('x'));
    linkSync(join(target, 'm/x'), join(target, 'c/y'));
    await settle();
    await save();
    for (const act of [
      () => linkSync(join(target, 'm/x'), join(target, 'b/w')),
      () => renameSync(join(target, 'm'), join(target, 'a/n')),
      () => appendFileSync(join(target, 'c/y'), 'more'),
      () => unlinkSync(join(target, 'a/n/x')),
      () => unlinkSync(join(target, 'b/w')),
      () => chmodSync(join(target, 'c/y'), 0o600),
    ]) {
      act();
      await settle();
      const result = await save();
      expect(result.outcome, String(act)).toBe('created');
      expect(result.version.root, String(act)).toBe(await fullRoot());
    }
  });

  it('is of one moment while it is written to, and the last one has all', async () => {
    const { target, save, fullRoot } = await workspaceOn(fillSmall);
    const program = `
      import { mkdirSync, renameSync, rmSync, writeFileSync, appendFileSync } from 'node:fs';
      process.chdir(process.argv[1]);
      for (let i = 0; ; i += 1) {
        const at = 'w' + (i % 7);
        rmSync(at, { recursive: true, force: true });
        mkdirSync(at);
        for (let j = 0; j < 5; j += 1) writeFileSync(at + '/' + j, String(i).repeat(300));
        if (i % 3 === 0) { rmSync('moved', { recursive: true, force: true }); renameSync(at, 'moved'); }
        appendFileSync('log', i + '\\n');
      }`;
    const writer = spawn(process.execPath, ['--input-type=module', '-e', program, target], { stdio: 'inherit' });
    const versions: Version[] = [];
    try {
      await sleep(200);
      for (let round = 0; round < 6; round += 1) versions.push((await save()).version);
    } finally {
      writer.kill('SIGKILL');
      await once(writer, 'exit');
    }
    expect(new Set(versions.map(({ root }) => root)).size).toBe(6);
    const { version } = await save();
    expect(version.root).toBe(await fullRoot());
    expect(dump(await entriesOf(version.root), { times: true, links: true })).toEqual(
      dump(scanTree(target), { times: true, links: true }),
    );
  });
});

describe.skipIf(!canMount)('a save of a workspace whose disk has no reflink', () => {
  it('reads the workspace itself: right when it rests, and it goes on while it does not', async () => {
    await using ext4 = await smallDisk({ type: 'ext4', bytes: 600 * 2 ** 20 });
    const { target, save, fullRoot } = await workspaceOn(fillSmall, ext4.directory);
    const random = randomOf(7);
    const editor = new Editor(random, [target], ['link']);
    for (let round = 0; round < 4; round += 1) {
      for (let i = 0; i < 10; i += 1) editor.edit();
      await settle();
      const result = await save();
      expect(result.version.root).toBe(await fullRoot());
      if (round > 0) expect(result.walk).toBe('changes');
    }
    writeFileSync(join(target, 'big'), Buffer.alloc(20 << 20, 'b'));
    await save();
    const program = `
      import { appendFileSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
      process.chdir(process.argv[1]);
      for (let i = 0; ; i += 1) {
        const at = 'w' + (i % 50);
        rmSync(at, { recursive: true, force: true });
        mkdirSync(at);
        for (let j = 0; j < 3; j += 1) writeFileSync(at + '/' + j, String(i).repeat(300));
        if (i % 5 === 0) { rmSync('moved', { recursive: true, force: true }); renameSync(at, 'moved'); }
        appendFileSync('big', 'x');
      }`;
    const writer = spawn(process.execPath, ['--input-type=module', '-e', program, target], { stdio: 'inherit' });
    try {
      await sleep(300);
      for (let round = 0; round < 4; round += 1) {
        const { version } = await save();
        // It is never read whole, and never lost for that.
        expect((await entriesOf(version.root)).map(({ path }) => path)).toContain('big');
      }
      expect(writer.exitCode).toBeNull();
    } finally {
      writer.kill('SIGKILL');
      await once(writer, 'exit');
    }
    const { version } = await save();
    expect(version.root).toBe(await fullRoot());
    await cleanLeftovers(dir);
  });
});

describe.skipIf(!canMount)('saves of whatever is done in a workspace', () => {
  const runs = Number(process.env.LARDER_TEST_RUNS ?? 3);
  const first = Number(process.env.LARDER_TEST_SEED ?? 1);
  it(`have the very root of a commit of all of it (${runs} runs from seed ${first})`, {
    timeout: 600_000,
  }, async () => {
    const walks = { none: 0, changes: 0, whole: 0 };
    for (let seed = first; seed < first + runs; seed += 1) {
      const random = randomOf(seed);
      // Files of several names make for walks of all: in every other run there are none.
      const without = seed % 2 === 0 ? ['link'] : [];
      const { target, save, fullRoot, index } = await workspaceOn((directory) => {
        const editor = new Editor(random, [directory], without);
        for (let i = 0; i < 60; i += 1) editor.edit(growing);
      });
      const editor = new Editor(random, [target], without);
      for (let round = 0; round < 8; round += 1) {
        for (let i = random(20); i >= 0; i -= 1) editor.edit();
        if (random(2) === 0) await settle();
        if (random(10) === 0) index.clear();
        const { version, walk } = await save(random(10) === 0 ? 'lose' : undefined);
        walks[walk] += 1;
        const where = `seed ${seed}, round ${round}, walk ${walk}`;
        const full = await fullRoot();
        if (version.root !== full) {
          const exact = { times: true, links: true };
          expect(dump(await entriesOf(version.root), exact), where).toEqual(dump(scanTree(target), exact));
        }
        expect(version.root, where).toBe(full);
      }
    }
    expect(walks.changes).toBeGreaterThan(runs);
  });
});
