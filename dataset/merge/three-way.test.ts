import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collect } from '../../test/support/collect.ts';
import { modelMerge, nodeOf } from '../../test/support/model-merge.ts';
import { createRandom, type Random } from '../../test/support/random.ts';
import { edited, randomEdit, smallTree } from '../../test/support/random-edits.ts';
import { type ByteString, bytesOf } from '../byte-string.ts';
import { type Digest, sha256 } from '../digest.ts';
import type { Entry, FileEntry } from '../entry.ts';
import { formatEntries } from '../format/entry-text.ts';
import { type EntryChange, editManifest, readEntries } from '../manifest.ts';
import { comparePaths } from '../path.ts';
import { initRepository, type Repository } from '../repository.ts';
import { type Choices, chooser } from './choices.ts';
import type { Side } from './entries.ts';
import { planMerge } from './plan.ts';
import type { Conflict } from './three-way.ts';

/** Another one each time: a run that fails tells which. */
const SEED = Number(process.env.LARDER_SEED ?? Date.now() % 1_000_000_000);

let directory: string;
let repository: Repository;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'larder-merge-'));
  repository = await initRepository(directory);
});

afterAll(async () => {
  await repository.bucket.close();
  rmSync(directory, { recursive: true });
});

describe('a merge of random trees', () => {
  it.each([
    ['small', 150, 12, 0, 6],
    ['of several segments', 5, 2500, 60, 60],
  ])(
    'comes out as one from the root down in memory does: %s',
    { timeout: 120_000 },
    async (_, rounds, size, names, edits) => {
      for (let round = 0; round < rounds; round++) {
        const seed = SEED + round;
        const random = createRandom(seed);
        const base = smallTree(random, 1 + random.below(size), names);
        const [ours, theirs] = randomSides(random, base, edits);
        const choices = randomChoices(random, base);
        const model = modelMerge(nodeOf(base), nodeOf(ours), nodeOf(theirs), chooser(choices));
        const merged = await merge([base], ours, theirs, choices);
        expect(merged.conflicts, `LARDER_SEED=${seed}`).toEqual(model.conflicts);
        if (model.conflicts.some(([, taken]) => taken === undefined)) continue;
        expect(formatEntries(merged.entries), `LARDER_SEED=${seed}`).toBe(formatEntries(model.entries));
        expect(merged.root, `LARDER_SEED=${seed}`).toBe(await build(model.entries));
      }
    },
  );

  it('is the same whichever side is ours, where nothing is in conflict', { timeout: 60_000 }, async () => {
    let compared = 0;
    for (let round = 0; round < 60; round++) {
      const seed = SEED + round;
      const random = createRandom(seed);
      const base = smallTree(random, 20);
      const [ours, theirs] = randomSides(random, base, 2);
      const [one, other] = [await merge([base], ours, theirs), await merge([base], theirs, ours)];
      expect(
        one.conflicts.map(([path]) => path),
        `LARDER_SEED=${seed}`,
      ).toEqual(other.conflicts.map(([path]) => path));
      if (one.conflicts.length > 0) continue;
      // Modes that both sides gave one directory are ours.
      const plain = (entries: readonly Entry[]) =>
        formatEntries(entries.map((entry) => (entry.type === 'directory' ? { ...entry, mode: 0o755 } : entry)));
      expect(plain(one.entries), `LARDER_SEED=${seed}`).toBe(plain(other.entries));
      compared++;
    }
    expect(compared).toBeGreaterThan(0);
  });

  it('leaves the names of one file alike in everything', { timeout: 60_000 }, async () => {
    for (let round = 0; round < 80; round++) {
      const seed = SEED + round;
      const random = createRandom(seed);
      const base = linkedTree(random, new Map());
      const [ours, theirs] = [linkedTree(random, groupsOf(base)), linkedTree(random, groupsOf(base))];
      const prefer = random.pick<Side>(['ours', 'theirs']);
      const merged = await merge([base], ours, theirs, { prefer });
      const groups = new Map<string, Entry>();
      for (const entry of merged.entries) {
        if (entry.type !== 'file' || entry.link === undefined) continue;
        const { path: _, ...file } = entry;
        const known = groups.get(entry.link);
        if (known) expect(file, `LARDER_SEED=${seed}`).toEqual(known);
        else groups.set(entry.link, file as Entry);
      }
    }
  });
});

describe('several common ancestors', () => {
  it('come to what each of them alone comes to, and every choice makes a tree', { timeout: 60_000 }, async () => {
    let compared = 0;
    for (let round = 0; round < 60; round++) {
      const seed = SEED + round;
      const random = createRandom(seed);
      const first = smallTree(random, 12);
      const [one, other] = randomSides(random, first, 3);
      const [ours, theirs] = [
        (await merge([first], one, other, { prefer: 'ours' })).entries,
        (await merge([first], one, other, { prefer: 'theirs' })).entries,
      ].map((tree) =>
        edited(
          tree,
          Array.from({ length: random.below(4) }, () => randomEdit(random, tree)),
        ),
      );
      const alone = [await merge([one], ours!, theirs!), await merge([other], ours!, theirs!)];
      const both = await merge([one, other], ours!, theirs!);
      if (alone.every(({ conflicts }) => conflicts.length === 0) && alone[0]!.root === alone[1]!.root) {
        expect(both, `LARDER_SEED=${seed}`).toMatchObject({ root: alone[0]!.root, conflicts: [] });
        compared++;
      }
      for (const prefer of ['ours', 'theirs'] as const) {
        const chosen = await merge([one, other], ours!, theirs!, { prefer });
        const known = new Set([...ours!, ...theirs!].map(({ path }) => path));
        expect(
          chosen.entries.every(({ path }) => known.has(path)),
          `LARDER_SEED=${seed}`,
        ).toBe(true);
      }
    }
    expect(compared).toBeGreaterThan(0);
  });

  it('must agree on what a path becomes', async () => {
    const tree = (a: number, b: number) => [dir(''), file('a', a), file('b', b)];
    // One base has the change of a, the other that of b; ours took the change of b back.
    const bases = [tree(2, 1), tree(1, 2)];
    const merged = await merge(bases, tree(2, 1), tree(2, 2));
    expect(merged.conflicts).toEqual([['b', undefined]]);
    expect((await merge(bases, tree(2, 2), tree(2, 3))).conflicts).toEqual([]);
    const taken = await merge(bases, tree(2, 1), tree(2, 2), { prefer: 'theirs' });
    expect(formatEntries(taken.entries)).toBe(formatEntries(tree(2, 2)));
  });

  it('keep what is in a directory that goes by one of them and stays by the other', async () => {
    const bare = [dir('')];
    const full = [dir(''), dir('d'), file('d/x', 1)];
    for (const bases of [
      [bare, full],
      [full, bare],
    ]) {
      for (const [ours, theirs] of [
        [full, bare],
        [bare, full],
      ] as const) {
        const { conflicts } = await merge(bases, ours, theirs);
        expect(conflicts.length).toBeGreaterThan(0);
        expect(formatEntries((await merge(bases, ours, theirs, { prefer: 'ours' })).entries)).toBe(formatEntries(ours));
        const other = await merge(bases, ours, theirs, { prefer: 'theirs' });
        expect(formatEntries(other.entries)).toBe(formatEntries(theirs));
      }
    }
  });
});

describe('trees with nothing in common', () => {
  it('are merged as if both had begun from nothing', async () => {
    const ours = [dir('', 5), dir('both'), file('both/same', 1), file('mine', 1)];
    const theirs = [dir('', 6), dir('both'), file('both/other', 2), file('both/same', 1)];
    const { conflicts, entries } = await merge([], ours, theirs);
    expect(conflicts).toEqual([]);
    expect(entries.map(({ path }) => path)).toEqual(['', 'both', 'both/other', 'both/same', 'mine']);
    expect(entries[0]!.mtimeSeconds).toBe(6);
    const clash = await merge([], ours, [dir(''), file('mine', 2)]);
    expect(clash.found).toMatchObject([{ kind: 'both-added', path: 'mine', whole: false }]);
  });
});

describe('a merge', () => {
  it('reads what differs and nothing else', async () => {
    const tree = [dir('')];
    for (let d = 0; d < 100; d++) {
      tree.push(dir(`d${pad(d)}`));
      for (let f = 0; f < 200; f++) tree.push(file(`d${pad(d)}/f${pad(f)}`, f));
    }
    const change = (path: string, value: number) =>
      tree.map((entry) => (entry.path === path ? file(path, value) : entry));
    const roots = [await build(tree), await build(change('d010/f100', -1)), await build(change('d090/f100', -2))];
    let gets = 0;
    const { bucket } = repository;
    const counting: Repository = {
      ...repository,
      bucket: {
        name: bucket.name,
        head: (key) => bucket.head(key),
        put: (key, body, options) => bucket.put(key, body, options),
        list: (prefix, options) => bucket.list(prefix, options),
        delete: (key, options) => bucket.delete(key, options),
        close: () => bucket.close(),
        get: (key, options) => {
          gets++;
          return bucket.get(key, options);
        },
      },
    };
    const plan = await planMerge(counting, { bases: [roots[0]!], ours: roots[1]!, theirs: roots[2]! }, {});
    expect(plan).toMatchObject({ changes: 1, conflicts: 0 });
    // Three roots, and a leaf before and after on each side, of some eighty in each tree.
    expect(gets).toBeLessThanOrEqual(7);
  });
});

type Merged = { entries: Entry[]; root: Digest; found: Conflict[]; conflicts: [string, Side | undefined][] };

async function merge(
  bases: readonly (readonly Entry[])[],
  ours: readonly Entry[],
  theirs: readonly Entry[],
  choices: Choices = {},
): Promise<Merged> {
  const found: Conflict[] = [];
  const [our, their] = [await build(ours), await build(theirs)];
  const roots: Digest[] = [];
  for (const base of bases) roots.push(await build(base));
  const plan = await planMerge(
    repository,
    { bases: roots, ours: our, theirs: their },
    { ...choices, onConflict: (conflict) => void found.push(conflict) },
  );
  const conflicts = found.map(({ path, taken }): [string, Side | undefined] => [path, taken]);
  expect(plan.unsettled).toBe(conflicts.filter(([, taken]) => taken === undefined).length);
  if (plan.unsettled > 0) return { entries: [], root: our, found, conflicts };
  const { root } = await editManifest(repository, our, plan.entryChanges());
  return { entries: (await collect(readEntries(repository, root))).flat(), root, found, conflicts };
}

async function build(tree: readonly Entry[]): Promise<Digest> {
  async function* puts(): AsyncGenerator<EntryChange[]> {
    yield tree.map((entry) => ({ kind: 'put', entry }));
  }
  return (await editManifest(repository, undefined, puts())).root;
}

/** Each side with some edits of its own, and some that both make. */
function randomSides(random: Random, base: readonly Entry[], most: number): [Entry[], Entry[]] {
  const edits = (count: number) => Array.from({ length: random.below(count + 1) }, () => randomEdit(random, base));
  const shared = edits(2);
  return [edited(base, [...shared, ...edits(most)]), edited(base, [...edits(most), ...shared])];
}

function randomChoices(random: Random, base: readonly Entry[]): Choices {
  const prefer = random.pick<Side | undefined>(['ours', 'theirs', undefined]);
  const take = new Map<ByteString, Side>();
  while (random.oneIn(3)) take.set(random.pick(base).path, random.pick<Side>(['ours', 'theirs']));
  return { ...(prefer && { prefer }), take };
}

/** Files in groups, each of which is alike under all of its names; some as in `before`. */
function linkedTree(random: Random, before: ReadonlyMap<string, readonly FileEntry[]>): Entry[] {
  const tree = new Map<string, Entry>([['', dir('')]]);
  for (const [, members] of before) {
    if (random.oneIn(4)) continue;
    const changed = random.oneIn(3) ? { size: 1 + random.below(3), mtimeSeconds: random.below(3) } : {};
    const kept = members.filter(() => !random.oneIn(4));
    for (const member of kept) tree.set(member.path, { ...member, ...changed });
    if (kept.length > 0 && random.oneIn(2)) {
      const path = bytesOf(random.pick(['p', 'q', 'r', 's']));
      if (!tree.has(path)) tree.set(path, { ...kept[0]!, ...changed, path });
    }
  }
  for (const link of ['a', 'b', 'c'].map(bytesOf)) {
    if (random.oneIn(2) || [...tree.values()].some((entry) => entry.type === 'file' && entry.link === link)) continue;
    const size = 1 + random.below(3);
    for (const name of ['', '1', '2'])
      if (!tree.has(link + name) && !random.oneIn(3)) tree.set(link + name, { ...file(link + name, size), size, link });
  }
  return [...tree.values()].sort((a, b) => comparePaths(a.path, b.path));
}

function groupsOf(tree: readonly Entry[]): Map<string, FileEntry[]> {
  const groups = new Map<string, FileEntry[]>();
  for (const entry of tree)
    if (entry.type === 'file' && entry.link !== undefined)
      groups.set(entry.link, [...(groups.get(entry.link) ?? []), entry]);
  return groups;
}

function dir(path: string, mtimeSeconds = 0): Entry {
  return { type: 'directory', path: bytesOf(path), mode: 0o755, uid: 0, gid: 0, mtimeSeconds, mtimeNanos: 0 };
}

function file(path: string, value: number): FileEntry {
  const content = { kind: 'chunk' as const, id: sha256(`content ${value}`) };
  return { ...dir(path), type: 'file', mode: 0o644, size: 1000, content } as FileEntry;
}

function pad(number: number): string {
  return String(number).padStart(3, '0');
}
