import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { collect } from '../test/support/collect.ts';
import { createRandom, type Random } from '../test/support/random.ts';
import { randomDirectory, randomLeaf, randomName, randomTree } from '../test/support/random-tree.ts';
import { describeRepositories } from '../test/support/repositories.ts';
import type { Bucket } from './bucket/bucket.ts';
import { type ByteString, bytesOf } from './byte-string.ts';
import { type Digest, sha256 } from './digest.ts';
import type { Entry } from './entry.ts';
import { formatEntries } from './format/entry-text.ts';
import { encodeIndexNode } from './format/index-node.ts';
import { encodeLeaf } from './format/leaf.ts';
import { sealSegment } from './format/segment.ts';
import {
  chunksOf,
  type EntryChange,
  editManifest,
  findEntry,
  type IndexNode,
  type ManifestSink,
  type NewLeaf,
  pathOfChange,
  readAnySegment,
  readEntries,
  readSegment,
  readSegments,
  type SegmentRef,
} from './manifest.ts';
import { comparePaths, isWithin, joinPath, parentOf } from './path.ts';
import { initRepository, type Repository } from './repository.ts';

let repository: Repository;
let gets: string[];

describeRepositories('manifests', (make, kind) => {
  beforeEach(async () => {
    gets = [];
    const made = await initRepository(await make());
    const { bucket } = made;
    const counted: Bucket = {
      name: bucket.name,
      get: (key, options) => {
        gets.push(key);
        return bucket.get(key, options);
      },
      head: (key) => bucket.head(key),
      put: (key, body, options) => bucket.put(key, body, options),
      list: (prefix, options) => bucket.list(prefix, options),
      delete: (key, options) => bucket.delete(key, options),
      close: () => bucket.close(),
    };
    repository = { ...made, bucket: counted };
  });

  afterEach(async () => {
    await repository.bucket.close();
  });

  describe('a manifest', () => {
    test('gives back every entry of a random tree', async () => {
      const random = createRandom(1);
      for (const size of kind === 'S3' ? [1, 2, 1500] : [1, 2, 63, 64, 65, 300, 5000]) {
        const tree = randomTree(random, size);
        const built = await build(tree);
        expect(built.entries).toBe(tree.length);
        expect(built.bytes).toBe(sizeOf(tree));
        expect(formatEntries(await entriesOf(built.root))).toBe(formatEntries(tree));
      }
    });

    test('has the root that its tree has when it is made afresh, after any edits', async () => {
      for (let seed = 1; seed <= (kind === 'S3' ? 1 : 12); seed++) {
        const random = createRandom(seed);
        let tree = randomTree(random, random.pick([3, 200, 1500, 6000]));
        let root = (await build(tree)).root;
        for (let round = 0; round < 6; round++) {
          const changes = randomChanges(random, tree, random.pick([0, 1, 3, 40, 600]));
          tree = applied(tree, changes);
          const edited = await edit(root, changes);
          const afresh = await build(tree);
          expect(edited, `seed ${seed}, round ${round}`).toMatchObject({
            root: afresh.root,
            entries: tree.length,
            bytes: sizeOf(tree),
          });
          root = edited.root;
        }
        expect(formatEntries(await entriesOf(root))).toBe(formatEntries(tree));
      }
    });

    test('of a tree from which everything was deleted is that of the empty tree', async () => {
      const tree = randomTree(createRandom(3), 2000);
      const { root } = await build(tree);
      const emptied = await edit(root, [{ kind: 'delete', path: '' as ByteString }]);
      expect(emptied).toMatchObject({ root: (await build([])).root, entries: 0, bytes: 0 });
      expect(await entriesOf(emptied.root)).toEqual([]);
      const again = await edit(emptied.root, puts(tree));
      expect(again.root).toBe(root);
    });

    test('whose root was replaced along with everything is that of the new tree', async () => {
      const random = createRandom(4);
      const old = await build(randomTree(random, 3000));
      const tree = randomTree(random, 1000);
      const replaced = await edit(old.root, [{ kind: 'delete', path: '' as ByteString }, ...puts(tree)]);
      expect(replaced.root).toBe((await build(tree)).root);
    });

    test('loses the directory and all below it when a file takes its place', async () => {
      const tree = [dir(''), dir('a'), file('a/x'), file('a-b'), dir('b')];
      const { root } = await build(tree);
      const edited = await edit(root, puts([file('a')]));
      expect((await entriesOf(edited.root)).map((entry) => entry.path)).toEqual(['', 'a', 'a-b', 'b']);
    });

    test('keeps what is in a directory when only the directory itself changes', async () => {
      const { root } = await build([dir(''), dir('a'), file('a/x')]);
      const edited = await edit(root, puts([{ ...dir('a'), mode: 0o700 }]));
      expect((await entriesOf(edited.root)).map((entry) => entry.path)).toEqual(['', 'a', 'a/x']);
      expect(await findEntry(repository, edited.root, bytesOf('a'))).toMatchObject({ mode: 0o700 });
    });

    test('after one change reads and writes a few segments of many', async () => {
      const tree = plainTree(200, 200);
      const { root } = await build(tree);
      const leaves = await collect(readSegments(repository, root));
      expect(leaves.length).toBeGreaterThan(60);
      gets = [];
      const edited = await edit(root, puts([{ ...file('d0100/f0100'), mode: 0o600 }]));
      expect(new Set(gets).size).toBeLessThanOrEqual(8);
      expect(edited.newSegments).toBeLessThanOrEqual(4);
      expect(edited.root).not.toBe(root);
    });

    test('takes the deletion of a directory without reading what is in it', async () => {
      const tree = plainTree(200, 200);
      const { root } = await build(tree);
      gets = [];
      const edited = await edit(root, [
        ...Array.from({ length: 190 }, (_, i) => ({ kind: 'delete' as const, path: bytesOf(`d${pad(i + 5)}`) })),
      ]);
      expect(edited.entries).toBe(1 + 10 * 201);
      const few = plainTree(200, 200).filter(({ path }) => path === '' || path < 'd0005' || path >= 'd0195');
      expect(edited.root).toBe((await build(few)).root);
      gets = [];
      await edit(root, [{ kind: 'delete', path: bytesOf('d0001') }]);
      expect(new Set(gets).size).toBeLessThanOrEqual(8);
    });

    test('is not written again when nothing changes', async () => {
      const tree = randomTree(createRandom(9), 4000);
      const { root } = await build(tree);
      const calls: NewLeaf[] = [];
      const same = await edit(root, [], record(calls));
      expect(same).toMatchObject({ root, newSegments: 0, newSegmentBytes: 0 });
      const rewritten = await edit(root, puts(tree), record(calls));
      expect(rewritten).toMatchObject({ root, newSegments: 0 });
      expect(calls).toEqual([]);
    });

    test('tells of each new leaf once, with its chunks and the leaves that they may come from, before it is stored', async () => {
      const tree = plainTree(40, 100);
      const before: NewLeaf[] = [];
      const { root } = await build(tree, record(before));
      const leaves = await collect(readSegments(repository, root));
      expect(before.map((leaf) => leaf.digest)).toEqual(leaves.map((leaf) => leaf.digest));
      for (const leaf of before) expect(leaf.chunks).toEqual(chunksOf(await readSegment(repository, leaf.digest)));
      const after: NewLeaf[] = [];
      const stored: boolean[] = [];
      await edit(root, puts([file('d0020/f0050x')]), {
        leaf: async (leaf) => {
          after.push(leaf);
          stored.push(
            (await repository.bucket.head(`segments/${leaf.digest.slice(0, 2)}/${leaf.digest}`)) !== undefined,
          );
        },
      });
      expect(after.length).toBeGreaterThan(0);
      expect(stored).not.toContain(true);
      for (const leaf of after) {
        const carried = new Set<Digest>();
        for (const from of leaf.from) {
          expect(from.chunks).toEqual(chunksOf(await readSegment(repository, from.digest)));
          for (const { id } of from.chunks!) carried.add(id);
        }
        const unknown = leaf.chunks.filter(({ id }) => !carried.has(id));
        expect(unknown.length).toBeLessThanOrEqual(1);
      }
    });

    test('holds paths of any depth', async () => {
      const tree = [dir('')];
      let path = '';
      for (let i = 0; i < 400; i++) {
        path = i === 0 ? 'd'.repeat(255) : `${path}/${'d'.repeat(255)}`;
        tree.push(dir(path));
      }
      for (let i = 0; i < 100; i++) tree.push(file(`${path}/${pad(i)}`));
      const { root } = await build(tree);
      expect(await entriesOf(root)).toEqual(tree.map((entry) => expect.objectContaining({ path: entry.path })));
      const changed = [{ ...tree.at(-50)!, mode: 0o600 }];
      const edited = await edit(root, puts(changed));
      expect(edited.root).toBe(
        (await build(tree.map((entry) => (entry.path === changed[0]!.path ? changed[0]! : entry)))).root,
      );
      expect(edited.newSegments).toBeLessThanOrEqual(4);
    });

    test('fails with what its sink fails with', async () => {
      const refusing = { leaf: () => Promise.reject(new Error('no room')) };
      await expect(build(plainTree(20, 200), refusing)).rejects.toThrow('no room');
    });

    test('goes on while its leaves wait for a pack that later changes fill', async () => {
      const waiting: (() => void)[] = [];
      const sink = { leaf: () => new Promise<void>((resolve) => waiting.push(resolve)) };
      const tree = plainTree(100, 200);
      async function* changes() {
        for (let i = 0; i < tree.length; i += 100) yield puts(tree.slice(i, i + 100));
        await new Promise((resolve) => setImmediate(resolve));
        expect(waiting.length).toBeGreaterThan(30);
        const open = setInterval(() => {
          for (const resolve of waiting.splice(0)) resolve();
        }, 1);
        open.unref();
      }
      const built = await editManifest(repository, undefined, changes(), sink);
      expect(built.entries).toBe(tree.length);
    });

    test('refuses entries out of order, twice, or without their directory', async () => {
      await expect(build([dir(''), file('b'), file('a')])).rejects.toThrow('no path order');
      await expect(build([dir(''), file('a'), file('a')])).rejects.toThrow('no path order');
      await expect(build([dir(''), file('a/b')])).rejects.toThrow('no entry for the directory');
      await expect(build([dir(''), file('a'), file('a/b')])).rejects.toThrow('is no directory');
      await expect(build([file('a')])).rejects.toThrow('no entry for the directory');
      await expect(build([dir(''), file('a/../b')])).rejects.toThrow();
    });
  });

  describe('reading a part of a manifest', () => {
    test('gives a directory with all below it, and nothing beside it', async () => {
      const random = createRandom(21);
      const tree = randomTree(random, 4000);
      const { root } = await build(tree);
      for (let i = 0; i < 60; i++) {
        const prefix = random.pick(tree).path;
        const from = random.pick(tree).path;
        const within = tree.filter(({ path }) => isWithin(path, prefix));
        expect(formatEntries(await entriesOf(root, { prefix }))).toBe(formatEntries(within));
        const after = tree.filter(({ path }) => comparePaths(path, from) >= 0);
        expect((await entriesOf(root, { from })).length).toBe(after.length);
      }
      expect(await entriesOf(root, { prefix: bytesOf('no such thing') })).toEqual([]);
    });

    test('finds each entry by its path, and nothing at other paths', async () => {
      const tree = randomTree(createRandom(22), 3000);
      const { root } = await build(tree);
      for (let i = 0; i < tree.length; i += 7) {
        const { path } = tree[i]!;
        expect(formatEntries([(await findEntry(repository, root, path))!])).toBe(formatEntries([tree[i]!]));
        expect(await findEntry(repository, root, `${path}\x01` as ByteString)).toBeUndefined();
      }
      expect(await findEntry(repository, (await build([])).root, '' as ByteString)).toBeUndefined();
    });

    test('reads a segment once for many look-ups at once', async () => {
      const tree = plainTree(100, 100);
      const { root } = await build(tree);
      gets = [];
      await Promise.all(Array.from({ length: 80 }, (_, i) => findEntry(repository, root, bytesOf(`d0050/f${pad(i)}`))));
      expect(gets.length).toBeLessThanOrEqual(5);
      expect(new Set(gets).size).toBe(gets.length);
    });

    test('names the segment that is not what its parent tells', async () => {
      const { root } = await build(plainTree(20, 100));
      const [first, second] = await collect(readSegments(repository, root));
      const node = (await readAnySegment(repository, root)) as IndexNode;
      const wrong: [Partial<SegmentRef>, string][] = [
        [{ digest: second!.digest }, 'and its parent tells of'],
        [{ entries: first!.entries + 1 }, `it has ${first!.entries} entries`],
        [{ bytes: 1 }, 'and its parent tells of 1'],
        [{ last: first!.first }, 'its last entry is'],
      ];
      for (const [field, fault] of wrong) {
        const children = [{ ...first!, ...field }, ...node.children.slice(1)];
        const { digest, object } = sealSegment(encodeIndexNode({ level: 1, children }));
        await repository.bucket.put(`segments/${digest.slice(0, 2)}/${digest}`, object);
        await expect(entriesOf(digest)).rejects.toThrow(fault);
      }
      const { digest, object } = sealSegment(encodeIndexNode({ level: 2, children: node.children }));
      await repository.bucket.put(`segments/${digest.slice(0, 2)}/${digest}`, object);
      await expect(entriesOf(digest)).rejects.toThrow(`segment ${first!.digest} is damaged: it has the level 0`);
    });

    test('names the segment whose entries make no tree with those before', async () => {
      const broken = sealSegment(encodeLeaf([dir(''), file('a/b')]));
      await repository.bucket.put(`segments/${broken.digest.slice(0, 2)}/${broken.digest}`, broken.object);
      await expect(entriesOf(broken.digest)).rejects.toThrow(
        `segment ${broken.digest} is damaged: the entry 'a/b' has no entry for the directory`,
      );
    });

    test('names the segment that is missing', async () => {
      const { root } = await build(plainTree(20, 100));
      const [, leaf] = await collect(readSegments(repository, root));
      await repository.bucket.delete(`segments/${leaf!.digest.slice(0, 2)}/${leaf!.digest}`);
      await expect(entriesOf(root)).rejects.toThrow(`segment ${leaf!.digest} is missing`);
    });
  });
});

async function build(tree: readonly Entry[], sink?: ManifestSink) {
  return await editManifest(repository, undefined, batches(puts(tree)), sink);
}

async function edit(root: Digest, changes: readonly EntryChange[], sink?: ManifestSink) {
  return await editManifest(repository, root, batches(changes), sink);
}

async function entriesOf(root: Digest, options = {}): Promise<Entry[]> {
  return (await collect(readEntries(repository, root, options))).flat();
}

function record(into: NewLeaf[]): ManifestSink {
  return {
    leaf: async (leaf) => {
      into.push(leaf);
    },
  };
}

async function* batches(changes: readonly EntryChange[]): AsyncGenerator<readonly EntryChange[]> {
  for (let i = 0; i < changes.length; i += 37) yield changes.slice(i, i + 37);
}

function puts(tree: readonly Entry[]): EntryChange[] {
  return tree.map((entry) => ({ kind: 'put', entry }));
}

function sizeOf(tree: readonly Entry[]): number {
  return tree.reduce((sum, entry) => sum + (entry.type === 'file' ? entry.size : 0), 0);
}

function dir(path: string): Entry {
  return { type: 'directory', path: bytesOf(path), mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanos: 0 };
}

function file(path: string): Entry {
  const content = { kind: 'chunk' as const, id: sha256(path) };
  return { ...dir(path), type: 'file', size: 1000, content };
}

function plainTree(directories: number, files: number): Entry[] {
  const tree = [dir('')];
  for (let i = 0; i < directories; i++) {
    tree.push(dir(`d${pad(i)}`));
    for (let j = 0; j < files; j++) tree.push(file(`d${pad(i)}/f${pad(j)}`));
  }
  return tree;
}

function pad(value: number): string {
  return String(value).padStart(4, '0');
}

/** Puts of new and of changed entries, and deletes of entries, subtrees and of nothing, in order. */
function randomChanges(random: Random, tree: readonly Entry[], count: number): EntryChange[] {
  const changes = new Map<ByteString, EntryChange[]>();
  const directories = tree.filter((entry) => entry.type === 'directory').map((entry) => entry.path);
  for (let i = 0; i < count; i++) {
    const { path, type } = random.pick(tree);
    const fresh = joinPath(random.pick(directories), randomName(random));
    const kind = random.below(6);
    if (kind === 0 && (type !== 'directory' || random.oneIn(6)) && path !== '')
      changes.set(path, [{ kind: 'delete', path }]);
    else if (kind === 1 && path !== '' && (type !== 'directory' || random.oneIn(10)))
      changes.set(path, [{ kind: 'put', entry: randomLeaf(random, path) }]);
    else if (kind === 2 && type === 'directory')
      changes.set(path, [{ kind: 'put', entry: randomDirectory(random, path) }]);
    else if (kind === 3 && path !== '' && random.oneIn(4))
      changes.set(path, [
        { kind: 'delete', path },
        { kind: 'put', entry: randomDirectory(random, path) },
      ]);
    else if (kind === 4) changes.set(fresh, [{ kind: 'delete', path: fresh }]);
    else changes.set(fresh, [{ kind: 'put', entry: randomLeaf(random, fresh) }]);
  }
  const gone = [...changes.values()]
    .flat()
    .filter((change) => change.kind === 'delete' || change.entry.type !== 'directory');
  const inGone = (path: ByteString) =>
    gone.some((change) => path !== pathOfChange(change) && isWithin(path, pathOfChange(change)));
  return [...changes.values()]
    .filter(([change]) => !inGone(pathOfChange(change!)))
    .flat()
    .sort((a, b) => comparePaths(pathOfChange(a), pathOfChange(b)));
}

/** What `changes` mean, done the plain way. */
function applied(tree: readonly Entry[], changes: readonly EntryChange[]): Entry[] {
  const entries = new Map(tree.map((entry) => [entry.path, entry]));
  const remove = (path: ByteString) => {
    for (const each of entries.keys()) if (isWithin(each, path)) entries.delete(each);
  };
  for (const change of changes) {
    if (change.kind === 'delete') remove(change.path);
    else {
      if (change.entry.type !== 'directory') remove(change.entry.path);
      entries.set(change.entry.path, change.entry);
    }
  }
  const result = [...entries.values()].sort((a, b) => comparePaths(a.path, b.path));
  for (const { path } of result) {
    const parent = parentOf(path);
    if (parent !== undefined && entries.get(parent)?.type !== 'directory') throw new Error('the test made no tree');
  }
  return result;
}
