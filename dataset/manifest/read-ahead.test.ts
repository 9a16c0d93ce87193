import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { collect } from '../../test/support/collect.ts';
import type { Bucket } from '../bucket/bucket.ts';
import { directoryBucket } from '../bucket/directory.ts';
import { bytesOf } from '../byte-string.ts';
import { sha256 } from '../digest.ts';
import type { Entry } from '../entry.ts';
import { UnavailableError } from '../errors.ts';
import { type EntryChange, editManifest, readEntries, readSegments } from '../manifest.ts';
import type { Repository } from '../repository.ts';

/** Segments that a bucket is asked for, each let through one by one, or all at once where none is held. */
interface Gate {
  held: boolean;
  readonly waiting: { readonly key: string; readonly open: () => void }[];
  readonly failing: Set<string>;
  asked: number;
  most: number;
}

let directory: string;
let gate: Gate;
let repository: Repository;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'larder-read-ahead-'));
  gate = { held: false, waiting: [], failing: new Set(), asked: 0, most: 0 };
  repository = opened();
});

afterEach(async () => {
  await repository.bucket.close();
  await rm(directory, { recursive: true });
});

describe('an edit of a tree', () => {
  test('reads the leaves that its changes touch side by side, and a bounded number of them', async () => {
    const tree = plainTree(120, 200);
    const { root } = await build(tree);
    const leaves = await collect(readSegments(repository, root));
    expect(leaves.length).toBeGreaterThan(60);
    const touched = Array.from({ length: 120 }, (_, i) => changed(`d${pad(i)}/f0100`));
    repository = opened();
    gate.held = true;
    const editing = editManifest(repository, root, batches(touched, 10));
    const opening = letThrough(() => gate.waiting.shift());
    const edited = await editing;
    opening.stop();
    expect(gate.most).toBeGreaterThan(20);
    expect(gate.most).toBeLessThan(50);
    gate.held = false;
    expect(edited.root).toBe((await build(applied(tree, touched))).root);
  });

  test('comes to the same tree in whatever order its reads end', async () => {
    const tree = plainTree(60, 200);
    const { root } = await build(tree);
    const changes: EntryChange[] = [];
    for (let i = 0; i < 60; i++) {
      if (i % 7 === 3) changes.push({ kind: 'delete', path: bytesOf(`d${pad(i)}`) });
      else if (i % 5 === 1) changes.push({ kind: 'put', entry: file(`d${pad(i)}`) });
      else changes.push(changed(`d${pad(i)}/f0010`), { kind: 'delete', path: bytesOf(`d${pad(i)}/f0150`) });
    }
    const expected = (await build(applied(tree, changes))).root;
    for (const next of [() => gate.waiting.shift(), () => gate.waiting.pop()]) {
      repository = opened();
      gate.held = true;
      const editing = editManifest(repository, root, batches(changes, 7));
      const opening = letThrough(next);
      expect((await editing).root).toBe(expected);
      opening.stop();
      gate.held = false;
    }
  });

  test('reads each segment once', async () => {
    const { root } = await build(plainTree(60, 200));
    repository = opened();
    const touched = Array.from({ length: 600 }, (_, i) =>
      changed(`d${pad(Math.floor(i / 10))}/f${pad((i % 10) * 20)}`),
    );
    await editManifest(repository, root, batches(touched, 50));
    const segments = await collect(readSegments(opened(), root));
    // Every leaf, and one index node: the tree has two levels.
    expect(gate.asked).toBeLessThanOrEqual(segments.length + 2);
  });

  test('does not read what lies in a directory that is put in place of a deleted one', async () => {
    const { root } = await build(plainTree(60, 200));
    repository = opened();
    const put = plainTree(60, 200).filter(({ path }) => path.startsWith('d0030'));
    const changes: EntryChange[] = [
      { kind: 'delete', path: bytesOf('d0001') },
      ...Array.from({ length: 57 }, (_, i) => ({ kind: 'delete' as const, path: bytesOf(`d${pad(i + 2)}`) })),
    ];
    changes.splice(30, 0, ...put.map((entry) => ({ kind: 'put' as const, entry })));
    await editManifest(repository, root, batches(changes, 400));
    expect(gate.asked).toBeLessThanOrEqual(62);
  });

  test('fails with what a read ahead of it failed with', async () => {
    const { root } = await build(plainTree(60, 200));
    const leaves = await collect(readSegments(repository, root));
    repository = opened();
    gate.failing.add(leaves[20]!.digest);
    const touched = Array.from({ length: 60 }, (_, i) => changed(`d${pad(i)}/f0100`));
    await expect(editManifest(repository, root, batches(touched, 10))).rejects.toThrow('the store is away');
  });

  test('does not mind that what it need not read cannot be read', async () => {
    const tree = plainTree(60, 200);
    const { root } = await build(tree);
    const leaves = await collect(readSegments(repository, root));
    repository = opened();
    // A leaf with nothing but files of one directory, which goes whole: nothing of it is opened.
    const within = leaves.find(({ first, last }) => first.includes('/') && first.slice(0, 5) === last.slice(0, 5))!;
    gate.failing.add(within.digest);
    const gone = within.first.slice(0, 5);
    const changes: EntryChange[] = [{ kind: 'delete', path: bytesOf(gone) }, changed('d0059/f0100')];
    const edited = await editManifest(repository, root, batches(changes, 10));
    expect(edited.root).toBe((await build(applied(tree, changes))).root);
  });

  test('ends at once when it is told to, and leaves no read behind', async () => {
    const { root } = await build(plainTree(60, 200));
    repository = opened();
    gate.held = true;
    const stop = new AbortController();
    const touched = Array.from({ length: 60 }, (_, i) => changed(`d${pad(i)}/f0100`));
    const editing = editManifest(repository, root, batches(touched, 10), undefined, { signal: stop.signal });
    editing.catch(() => undefined);
    // The root comes, and what is read after it does not.
    while (gate.waiting.length === 0) await turn();
    gate.waiting.shift()!.open();
    while (gate.waiting.length < 10) await turn();
    stop.abort(new Error('enough'));
    await expect(editing).rejects.toThrow('enough');
    gate.held = false;
    const { asked } = gate;
    for (let i = 0; i < 10; i++) await turn();
    expect(gate.asked).toBe(asked);
  });

  test('fails with what its changes fail with, at their place, and asks them for no more', async () => {
    const { root } = await build(plainTree(60, 200));
    let asked = 0;
    let ended = false;
    async function* failing() {
      try {
        for (let i = 0; ; i++) {
          asked += 1;
          if (i === 5) throw new UnavailableError('the source is away');
          yield [changed(`d${pad(i)}/f0100`)];
        }
      } finally {
        ended = true;
      }
    }
    await expect(editManifest(repository, root, failing())).rejects.toThrow('the source is away');
    expect(asked).toBe(6);
    expect(ended).toBe(true);
  });

  test('tells its changes that no more are wanted when it fails itself', async () => {
    const { root } = await build(plainTree(60, 200));
    let ended = false;
    async function* endless() {
      try {
        for (let i = 0; ; i++) yield [changed(`d${pad(i % 60)}/f0100`)];
      } finally {
        ended = true;
      }
    }
    await expect(editManifest(repository, root, endless())).rejects.toThrow('no path order');
    expect(ended).toBe(true);
  });

  test('fetches few of its changes ahead of what it has applied', async () => {
    const { root } = await build(plainTree(60, 200));
    repository = opened();
    gate.held = true;
    let given = 0;
    async function* many() {
      for (let i = 0; i < 60; i++)
        for (let j = 0; j < 200; j += 2) {
          given += 1;
          yield [changed(`d${pad(i)}/f${pad(j)}`)];
        }
    }
    const editing = editManifest(repository, root, many());
    while (gate.waiting.length === 0) await turn();
    for (let i = 0; i < 3000; i++) await Promise.resolve();
    for (let i = 0; i < 50; i++) await turn();
    expect(given).toBeLessThan(1200);
    const opening = letThrough(() => gate.waiting.shift());
    await editing;
    opening.stop();
    expect(given).toBe(6000);
  });
});

test('what an edit made can be read', async () => {
  const tree = plainTree(60, 200);
  const { root } = await build(tree);
  const changes = [changed('d0010/f0100'), changed('d0040/f0100')];
  const edited = await editManifest(repository, root, batches(changes, 1));
  const read = (await collect(readEntries(repository, edited.root))).flat();
  expect(read.length).toBe(tree.length);
  expect(read.filter(({ mode }) => mode === 0o600).map(({ path }) => path)).toEqual(['d0010/f0100', 'd0040/f0100']);
});

/** The repository with nothing of it in memory. */
function opened(): Repository {
  const bucket = directoryBucket(directory);
  const gated: Bucket = {
    name: bucket.name,
    async get(key, options) {
      if (!key.startsWith('segments/')) return await bucket.get(key, options);
      gate.asked += 1;
      const digest = key.slice(key.lastIndexOf('/') + 1);
      if (gate.failing.has(digest)) throw new UnavailableError('the store is away');
      if (gate.held) {
        await new Promise<void>((open, refuse) => {
          gate.waiting.push({ key, open });
          gate.most = Math.max(gate.most, gate.waiting.length);
          options?.signal?.addEventListener('abort', () => refuse(options.signal!.reason), { once: true });
        });
      }
      return await bucket.get(key, options);
    },
    head: (key, signal) => bucket.head(key, signal),
    put: (key, body, options) => bucket.put(key, body, options),
    list: (prefix, options) => bucket.list(prefix, options),
    delete: (key, options) => bucket.delete(key, options),
    close: () => bucket.close(),
  };
  return { id: '00000000-0000-0000-0000-000000000000', location: directory, bucket: gated };
}

/** Lets a read through whenever all that can be asked for is asked for. */
function letThrough(next: () => Gate['waiting'][number] | undefined): { stop(): void } {
  let stopped = false;
  void (async () => {
    let last = -1;
    while (!stopped) {
      if (gate.asked === last) next()?.open();
      last = gate.asked;
      await turn();
    }
  })();
  return {
    stop() {
      stopped = true;
    },
  };
}

async function build(tree: readonly Entry[]) {
  return await editManifest(
    repository,
    undefined,
    batches(
      tree.map((entry) => ({ kind: 'put', entry })),
      500,
    ),
  );
}

async function* batches(changes: readonly EntryChange[], size: number): AsyncGenerator<readonly EntryChange[]> {
  for (let i = 0; i < changes.length; i += size) yield changes.slice(i, i + size);
}

function changed(path: string): EntryChange {
  return { kind: 'put', entry: { ...file(path), mode: 0o600 } };
}

function applied(tree: readonly Entry[], changes: readonly EntryChange[]): Entry[] {
  const entries = new Map(tree.map((entry) => [entry.path, entry]));
  for (const change of changes) {
    const path = change.kind === 'put' ? change.entry.path : change.path;
    if (change.kind === 'delete' || change.entry.type !== 'directory')
      for (const each of entries.keys()) if (each.startsWith(`${path}/`)) entries.delete(each);
    if (change.kind === 'delete') entries.delete(path);
    else entries.set(path, change.entry);
  }
  return [...entries.values()];
}

function plainTree(directories: number, files: number): Entry[] {
  const tree: Entry[] = [folder('')];
  for (let i = 0; i < directories; i++) {
    tree.push(folder(`d${pad(i)}`));
    for (let j = 0; j < files; j++) tree.push(file(`d${pad(i)}/f${pad(j)}`));
  }
  return tree;
}

function folder(path: string): Entry {
  return { type: 'directory', path: bytesOf(path), mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanos: 0 };
}

function file(path: string): Entry {
  return { ...folder(path), type: 'file', size: 1000, content: { kind: 'chunk', id: sha256(path) } };
}

function pad(value: number): string {
  return String(value).padStart(4, '0');
}
