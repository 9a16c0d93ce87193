import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collect } from '../test/support/collect.ts';
import { createRandom, type Random } from '../test/support/random.ts';
import { readObject } from './bucket/read-object.ts';
import { type ByteString, bytesOf } from './byte-string.ts';
import type { Digest } from './digest.ts';
import type { Entry } from './entry.ts';
import { CorruptError } from './errors.ts';
import { segmentKey } from './keys.ts';
import { type EntryChange, editManifest, isIndex, readAnySegment, readSegments } from './manifest.ts';
import { newLeaves } from './new-leaves.ts';
import { comparePaths } from './path.ts';
import { initRepository, openRepository, type Repository } from './repository.ts';

let top: string;
let repository: Repository;
beforeAll(async () => {
  top = mkdtempSync(join(tmpdir(), 'larder-new-leaves-'));
  repository = await initRepository(join(top, 'r'));
});
afterAll(async () => {
  await repository.bucket.close();
  rmSync(top, { recursive: true, force: true });
});

const common = { mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 1, mtimeNanos: 0 };

function file(name: string, bytes: string): Entry {
  const content = { kind: 'inline' as const, bytes: Buffer.from(bytes) };
  return { type: 'file', path: bytesOf(name), ...common, size: content.bytes.length, content };
}

async function make(base: Digest | undefined, changes: EntryChange[]): Promise<Digest> {
  changes.sort((a, b) => comparePaths(pathOf(a), pathOf(b)));
  const { root } = await editManifest(
    repository,
    base,
    (async function* () {
      yield changes;
    })(),
  );
  return root;
}

const pathOf = (change: EntryChange): ByteString => (change.kind === 'put' ? change.entry.path : change.path);

async function tree(count: number): Promise<Digest> {
  const changes: EntryChange[] = [{ kind: 'put', entry: { type: 'directory', path: bytesOf(''), ...common } }];
  for (let i = 0; i < count; i++) changes.push({ kind: 'put', entry: file(`f${i}`, `${i}`) });
  return await make(undefined, changes);
}

async function edited(random: Random, base: Digest, count: number, edits: number): Promise<Digest> {
  const changes = new Map<string, EntryChange>();
  for (let i = 0; i < edits; i++) {
    const name = `f${random.below(count)}`;
    changes.set(
      name,
      random.oneIn(3) ? { kind: 'delete', path: bytesOf(name) } : { kind: 'put', entry: file(name, `new ${i}`) },
    );
  }
  return await make(base, [...changes.values()]);
}

const leavesOf = async (root: Digest) => (await collect(readSegments(repository, root))).map(({ digest }) => digest);

describe('the leaves that a base lacks', () => {
  it.each([
    [300, 3],
    [5_000, 1],
    [5_000, 40],
    [70_000, 1],
    [70_000, 60],
  ])('are exactly those, in path order: %i entries, %i edits', async (count, edits) => {
    const random = createRandom(count + edits);
    const before = await tree(count);
    const after = await edited(random, before, count, edits);
    for (const [root, base] of [
      [after, before],
      [before, after],
    ] as const) {
      const known = new Set(await leavesOf(base));
      const expected = (await leavesOf(root)).filter((leaf) => !known.has(leaf));
      const found = await collect(newLeaves({ repository, root }, { base: { repository, root: base } }));
      expect(found.map(({ digest }) => digest)).toEqual(expected);
      for (const { base: near } of found) for (const leaf of near) expect(known.has(leaf)).toBe(true);
      if (edits === 1) expect(found.length).toBeLessThanOrEqual(3);
    }
  });

  it('are found between trees of different heights, and from and to an empty one', async () => {
    const [small, large, empty] = [await tree(100), await tree(70_000), await make(undefined, [])];
    for (const [root, base] of [
      [small, large],
      [large, small],
      [large, empty],
      [empty, large],
    ] as const) {
      const known = new Set(await leavesOf(base));
      const found = await collect(newLeaves({ repository, root }, { base: { repository, root: base } }));
      const all = root === empty ? [empty] : await leavesOf(root);
      expect(found.map(({ digest }) => digest)).toEqual(all.filter((leaf) => !known.has(leaf)));
    }
    expect(await collect(newLeaves({ repository, root: large }, { base: { repository, root: large } }))).toEqual([]);
  });

  it('are passed over below a damaged segment, which is told of, or thrown where nobody listens', async () => {
    const root = await tree(70_000);
    const top = await readAnySegment(repository, root);
    if (!isIndex(top) || top.level < 2) throw new Error('the tree is too low for this test');
    const gone = top.children[1]!;
    const { bytes } = await readObject(repository.bucket, segmentKey(gone.digest), 1 << 20);
    await repository.bucket.delete(segmentKey(gone.digest));
    const fresh = await openRepository(repository.location);
    const told: Digest[] = [];
    const onDamage = (digest: Digest) => told.push(digest);
    const found = await collect(newLeaves({ repository: fresh, root }, { onDamage }));
    expect(told).toEqual([gone.digest]);
    const left = found.map(({ ref }) => ref!);
    expect(left.some(({ first }) => comparePaths(first, gone.first) >= 0 && comparePaths(first, gone.last) <= 0)).toBe(
      false,
    );
    expect(left.reduce((sum, { entries }) => sum + entries, 0)).toBe(70_001 - gone.entries);
    await expect(collect(newLeaves({ repository: fresh, root }))).rejects.toThrow(CorruptError);
    await repository.bucket.put(segmentKey(gone.digest), bytes);
    await fresh.bucket.close();
  });
});
