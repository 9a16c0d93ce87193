import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ByteString, bytesOf } from '../dataset/byte-string.ts';
import type { Change } from '../dataset/commit.ts';
import type { DirectoryEntry, Entry } from '../dataset/entry.ts';
import { mknod, setxattr, utimensat } from '../system/calls.ts';
import { canMount } from '../test/support/privilege.ts';
import { Editor, growing, randomOf } from './editor.fixture.ts';
import { writeImage } from './erofs/image.ts';
import { mountImage } from './image-mount.ts';
import { mountOverlay } from './overlay.ts';
import { applyChanges, dump, memoryBase, scanTree, storeObject } from './tree.fixture.ts';
import { cleanLeftovers, unmount } from './unmount.ts';
import { upperChanges } from './upper.ts';
import { createWorkspaceImage, MIN_WORKSPACE_BYTES, mountWorkspace } from './workspace.ts';

let dir: string;
let disk: string;
let count = 0;

beforeAll(async () => {
  if (!canMount) return;
  dir = mkdtempSync(join(tmpdir(), 'larder-upper-'));
  disk = join(dir, 'disk');
  mkdirSync(disk);
  // One XFS for all tests, as a workspace's; each has its own upper directory in it.
  await createWorkspaceImage({ file: join(dir, 'disk.xfs'), capacity: MIN_WORKSPACE_BYTES });
  const root = {
    type: 'directory',
    path: '',
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtimeSeconds: 0,
    mtimeNanos: 0,
  } as DirectoryEntry;
  await mountWorkspace({ file: join(dir, 'disk.xfs'), at: disk, root });
});

afterAll(async () => {
  if (!canMount) return;
  await cleanLeftovers(dir);
  rmSync(dir, { recursive: true });
});

interface Workspace {
  /** The mounted workspace. */
  readonly target: string;
  /** A plain copy of the version. */
  readonly plain: string;
  readonly base: readonly Entry[];
  /** Unmounts, and reads the upper layer. */
  finish(): Promise<{ changes: Change[]; result: Entry[]; seen: Entry[]; copy: Entry[]; skipped: string[] }>;
}

/** A version made of what `fill` writes, and a workspace mounted on it. */
async function workspaceOn(fill: (directory: string) => void): Promise<Workspace> {
  count += 1;
  const at = (name: string) => join(dir, String(count), name);
  for (const name of ['plain', 'objects', 'wait', 'late', 'fault', 'image', 'target'])
    mkdirSync(at(name), { recursive: true });
  const plain = at('plain');
  fill(plain);
  const base = scanTree(plain, (content, data) => storeObject(at('objects'), content, data));
  const file = at('tree.erofs');
  await writeImage({ entries: [base], file });
  await mountImage({ file, at: at('image') });
  const upper = join(disk, `upper${count}`);
  const work = join(disk, `work${count}`);
  execFileSync('cp', ['-a', '--attributes-only', '-T', plain, upper]);
  for (const name of readdirSync(upper)) rmSync(join(upper, name), { recursive: true });
  const { mode, uid, gid, mtimeSeconds, mtimeNanos } = base[0]!;
  chmodSync(upper, mode);
  chownSync(upper, uid, gid);
  utimensat(upper, 'omit', { seconds: mtimeSeconds, nanos: mtimeNanos });
  mkdirSync(work);
  const target = at('target');
  const [image, objects, wait, late, fault] = [at('image'), at('objects'), at('wait'), at('late'), at('fault')];
  const layers = { image, objects, wait, late, fault };
  await mountOverlay({ layers, target, name: `test${count}`, writable: { upper, work } });
  return {
    target,
    plain,
    base,
    async finish() {
      const seen = scanTree(target);
      const copy = scanTree(plain);
      await unmount(target);
      await unmount(at('image'));
      const skipped: string[] = [];
      const changes: Change[] = [];
      const onSkip = (path: ByteString, kind: string) => skipped.push(`${kind} ${path}`);
      for await (const batch of upperChanges({ upper: bytesOf(upper), base: memoryBase(base), onSkip }))
        changes.push(...batch);
      return { changes, result: applyChanges(base, changes), seen, copy, skipped };
    },
  };
}

const exact = { times: true, links: true };

/** `put a/b` and the like: what happens, without how it looks. */
function steps(changes: readonly Change[]): string[] {
  return changes.map((change) =>
    change.kind === 'put'
      ? `put ${change.entry.path}`
      : change.kind === 'read'
        ? `read ${change.file.path}`
        : `delete ${change.path}`,
  );
}

const big = (text: string) => text.repeat(100);

function fillSmall(directory: string): void {
  const write = (path: string, data: string) => {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), data);
  };
  write('a/one', big('one'));
  write('a/two', big('two'));
  write('a/sub/three', big('three'));
  write('a-b', big('between a and a/'));
  write('b/four', big('four'));
  write('b/tiny', 'tiny');
  write('b/empty', '');
  mkdirSync(join(directory, 'c'));
  symlinkSync('a/one', join(directory, 'link'));
  linkSync(join(directory, 'b/four'), join(directory, 'b/four too'));
}

describe.skipIf(!canMount)('an upper layer becomes the list of its changes', () => {
  it('which is empty where nothing was changed, read as it may be', async () => {
    const { target, finish } = await workspaceOn(fillSmall);
    execFileSync('find', [target, '-type', 'f', '-exec', 'cat', '{}', '+']);
    expect((await finish()).changes).toEqual([]);
  });

  it('reads the files that were written, and no others', async () => {
    const { target, finish } = await workspaceOn(fillSmall);
    writeFileSync(join(target, 'a/one'), 'new');
    writeFileSync(join(target, 'a/fresh'), big('fresh'));
    appendFileSync(join(target, 'b/tiny'), ' no more');
    const { changes, result, seen } = await finish();
    expect(steps(changes)).toEqual(['put a', 'read a/fresh', 'read a/one', 'read b/tiny']);
    expect(dump(result, exact)).toEqual(dump(seen, exact));
  });

  it('takes mode, owner, times and attributes from the upper layer and the content from the version', async () => {
    const { target, finish, base } = await workspaceOn(fillSmall);
    chmodSync(join(target, 'a/one'), 0o4711);
    chownSync(join(target, 'a/two'), 7, 8);
    utimensat(join(target, 'a/sub/three'), 'omit', { seconds: -5, nanos: 6 });
    setxattr(join(target, 'b/tiny'), 'user.label', Buffer.from([0, 255]));
    chmodSync(join(target, 'c'), 0o700);
    const { changes, result, seen } = await finish();
    expect(steps(changes)).toEqual(['put a/one', 'put a/sub/three', 'put a/two', 'put b/tiny', 'put c']);
    expect(dump(result, exact)).toEqual(dump(seen, exact));
    const before = base.find((entry) => entry.path === 'a/one')!;
    expect(result.find((entry) => entry.path === 'a/one')).toEqual({ ...before, mode: 0o4711 });
  });

  it('deletes what was deleted, and what a new directory of the same name hides', async () => {
    const { target, finish } = await workspaceOn(fillSmall);
    rmSync(join(target, 'a'), { recursive: true });
    mkdirSync(join(target, 'a'));
    writeFileSync(join(target, 'a/only'), 'x');
    unlinkSync(join(target, 'b/tiny'));
    rmSync(join(target, 'c'), { recursive: true });
    const { changes, result, seen } = await finish();
    expect(steps(changes)).toEqual(['put ', 'delete a', 'put a', 'read a/only', 'put b', 'delete b/tiny', 'delete c']);
    expect(dump(result, exact)).toEqual(dump(seen, exact));
  });

  it('puts a renamed directory from the version under its new name, and reads nothing of it', async () => {
    const { target, finish } = await workspaceOn(fillSmall);
    renameSync(join(target, 'a'), join(target, 'b/moved'));
    const { changes, result, seen } = await finish();
    expect(steps(changes)).toEqual([
      'put ',
      'delete a',
      'put b',
      'delete b/moved',
      'put b/moved',
      'put b/moved/one',
      'put b/moved/sub',
      'put b/moved/sub/three',
      'put b/moved/two',
    ]);
    expect(dump(result, exact)).toEqual(dump(seen, exact));
  });

  it('keeps apart what was changed in a renamed directory, before and after it was renamed', async () => {
    const { target, finish } = await workspaceOn(fillSmall);
    writeFileSync(join(target, 'a/one'), 'changed before');
    renameSync(join(target, 'a'), join(target, 'm'));
    unlinkSync(join(target, 'm/two'));
    writeFileSync(join(target, 'm/sub/zero'), 'new');
    renameSync(join(target, 'm/sub'), join(target, 'm/inner'));
    mkdirSync(join(target, 'a'));
    writeFileSync(join(target, 'a/one'), 'another');
    const { changes, result, seen } = await finish();
    expect(steps(changes)).not.toContain('read m/inner/three');
    expect(steps(changes)).toEqual(expect.arrayContaining(['read m/one', 'put m/inner/three', 'read m/inner/zero']));
    expect(dump(result, exact)).toEqual(dump(seen, exact));
  });

  it('hides, in a renamed directory, what a new directory of the same name hides', async () => {
    const { target, finish } = await workspaceOn(fillSmall);
    renameSync(join(target, 'a'), join(target, 'm'));
    rmSync(join(target, 'm/sub'), { recursive: true });
    mkdirSync(join(target, 'm/sub'));
    const { result, seen } = await finish();
    expect(result.map((entry) => entry.path)).not.toContain('m/sub/three');
    expect(dump(result, exact)).toEqual(dump(seen, exact));
  });

  it('finds a directory that came back to its place below a new parent', async () => {
    const { target, finish } = await workspaceOn(fillSmall);
    renameSync(join(target, 'a/sub'), join(target, 'sub'));
    rmSync(join(target, 'a'), { recursive: true });
    mkdirSync(join(target, 'a'));
    renameSync(join(target, 'sub'), join(target, 'a/sub'));
    const { result, seen } = await finish();
    expect(result.map((entry) => entry.path)).toContain('a/sub/three');
    expect(dump(result, exact)).toEqual(dump(seen, exact));
  });

  it('swaps two directories', async () => {
    const { target, finish } = await workspaceOn(fillSmall);
    renameSync(join(target, 'a'), join(target, 'x'));
    renameSync(join(target, 'b'), join(target, 'a'));
    renameSync(join(target, 'x'), join(target, 'b'));
    const { changes, result, seen } = await finish();
    expect(steps(changes).filter((step) => step.startsWith('read'))).toEqual([]);
    expect(dump(result, exact)).toEqual(dump(seen, exact));
  });

  it('puts a renamed file from the version, across directories too', async () => {
    const { target, finish } = await workspaceOn(fillSmall);
    renameSync(join(target, 'a/one'), join(target, 'a/uno'));
    renameSync(join(target, 'a/two'), join(target, 'c/due'));
    const { changes, result, seen } = await finish();
    expect(steps(changes)).toEqual(['put a', 'delete a/one', 'delete a/two', 'put a/uno', 'put c', 'put c/due']);
    expect(dump(result, exact)).toEqual(dump(seen, exact));
  });

  it('lets a file take a directory’s place, and a directory a file’s', async () => {
    const { target, finish } = await workspaceOn(fillSmall);
    rmSync(join(target, 'a'), { recursive: true });
    writeFileSync(join(target, 'a'), 'a file now');
    unlinkSync(join(target, 'a-b'));
    mkdirSync(join(target, 'a-b'));
    rmSync(join(target, 'b'), { recursive: true });
    symlinkSync('elsewhere', join(target, 'b'));
    const { result, seen } = await finish();
    expect(dump(result, exact)).toEqual(dump(seen, exact));
  });

  it('keeps new hard links together, and apart from a group of the version that has their name', async () => {
    const { target, finish } = await workspaceOn(fillSmall);
    // The version's group is named 'b/four'; that member leaves it here and starts another.
    writeFileSync(join(target, 'b/four'), 'mine alone');
    linkSync(join(target, 'b/four'), join(target, 'c/five'));
    linkSync(join(target, 'a/one'), join(target, 'a/uno'));
    const { changes, result, seen } = await finish();
    const links = Object.fromEntries(result.map((entry) => [entry.path, entry.type === 'file' && entry.link]));
    expect(links['b/four']).toBe('b/four#2');
    expect(links['c/five']).toBe('b/four#2');
    expect(links['b/four too']).toBe('b/four');
    expect(links['a/uno']).toBe('a/one');
    expect(links['a/one']).toBe('a/one');
    expect(steps(changes)).toEqual(expect.arrayContaining(['put a/uno', 'read c/five']));
    expect(dump(result, exact)).toEqual(dump(seen, exact));
  });

  it('leaves devices, sockets and FIFOs out, tells of them, and deletes what they replaced', async () => {
    const { target, finish } = await workspaceOn(fillSmall);
    mknod(join(target, 'pipe'), 0o010600);
    unlinkSync(join(target, 'a-b'));
    mknod(join(target, 'a-b'), 0o010600);
    const { changes, result, skipped } = await finish();
    expect(skipped).toEqual(['fifo a-b', 'fifo pipe']);
    expect(steps(changes)).toContain('delete a-b');
    expect(result.some((entry) => entry.path === 'a-b' || entry.path === 'pipe')).toBe(false);
  });

  it('holds paths longer than the kernel takes, and names that are not text', async () => {
    const { target, base } = await workspaceOn(fillSmall);
    const name = 'd'.repeat(250);
    let fd = openSync(target, 'r');
    for (let depth = 0; depth < 20; depth += 1) {
      const at = `/proc/self/fd/${fd}/${name}`;
      mkdirSync(at);
      const next = openSync(at, 'r');
      closeSync(fd);
      fd = next;
    }
    writeFileSync(`/proc/self/fd/${fd}/file`, 'deep');
    closeSync(fd);
    writeFileSync(Buffer.concat([Buffer.from(`${target}/`), Buffer.from([0xff, 0x0a, 0xfe])]), 'odd');
    const walked: Change[] = [];
    await unmount(target);
    const upper = bytesOf(join(disk, `upper${count}`));
    for await (const batch of upperChanges({ upper, base: memoryBase(base) })) {
      walked.push(...batch);
    }
    const last = walked.flatMap((change) => (change.kind === 'read' ? [change.file.path] : []));
    expect(last).toEqual([`${`${name}/`.repeat(20)}file`, '\xff\n\xfe']);
  });

  it('refuses an upper layer that belongs to another version', async () => {
    const { target } = await workspaceOn(fillSmall);
    chmodSync(join(target, 'a/one'), 0o600);
    await unmount(target);
    const upper = bytesOf(join(disk, `upper${count}`));
    const other = memoryBase([]);
    await expect(async () => {
      for await (const _ of upperChanges({ upper, base: other }));
    }).rejects.toMatchObject({ kind: 'corrupt', message: expect.stringContaining("'a/one'") });
  });

  it('asks the version only about what was changed', async () => {
    const { target, base } = await workspaceOn((directory) => {
      fillSmall(directory);
      for (let i = 0; i < 500; i += 1) writeFileSync(join(directory, `c/${i}`), '');
    });
    chmodSync(join(target, 'a/one'), 0o600);
    await unmount(target);
    const counted = memoryBase(base);
    for await (const _ of upperChanges({ upper: bytesOf(join(disk, `upper${count}`)), base: counted }));
    expect(counted.asked).toEqual(['', 'a', 'a/one']);
  });
});

describe.skipIf(!canMount)('whatever is done in a workspace', () => {
  const runs = Number(process.env.LARDER_TEST_RUNS ?? 40);
  const first = Number(process.env.LARDER_TEST_SEED ?? 1);
  it(`its changes make the version the tree that was seen (${runs} runs from seed ${first})`, {
    timeout: 600_000,
  }, async () => {
    for (let seed = first; seed < first + runs; seed += 1) {
      const random = randomOf(seed);
      const { target, plain, finish } = await workspaceOn((directory) => {
        const editor = new Editor(random, [directory]);
        for (let i = 0; i < 60; i += 1) editor.edit(growing);
      });
      const editor = new Editor(random, [plain, target]);
      for (let i = random(40); i >= 0; i -= 1) editor.edit();
      const { result, seen, copy } = await finish();
      expect(dump(result, exact), `seed ${seed}`).toEqual(dump(seen, exact));
      const loose = { times: false, links: false };
      expect(dump(result, loose), `seed ${seed}`).toEqual(dump(copy, loose));
      expect(existsSync(target)).toBe(true);
    }
  });
});
