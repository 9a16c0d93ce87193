import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { guardPublish, markSweeps } from '../../dataset/collect/guard.ts';
import { readState } from '../../dataset/collect/state.ts';
import { type CollectOptions, collect } from '../../dataset/collect.ts';
import type { Digest } from '../../dataset/digest.ts';
import { canonicalJson } from '../../dataset/format/canonical-json.ts';
import { importDirectory } from '../../dataset/import.ts';
import { deleteBranch, moveBranch, readBranch, writeTag } from '../../dataset/refs.ts';
import { initRepository, type Repository } from '../../dataset/repository.ts';
import { readShallow } from '../../dataset/shallow.ts';
import { verifyRepository } from '../../dataset/verify.ts';
import { createRandom } from '../support/random.ts';
import { age, dataKeys, neededKeys, VersionMaker } from './small-versions.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

let directory: string;
let repository: Repository;
let maker: VersionMaker;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'larder-collect-'));
  repository = await initRepository(directory);
  maker = new VersionMaker(repository);
});

afterEach(async () => {
  await repository.bucket.close();
  rmSync(directory, { recursive: true });
});

const step = (options: Partial<CollectOptions> = {}) =>
  collect({ repository, timing: { settle: 0 }, repack: false, ...options });

/** Two calls, a grace period apart. */
async function collectAll(options: Partial<CollectOptions> = {}) {
  age(directory, 2 * DAY);
  const first = await step(options);
  age(directory, 2 * DAY);
  return { first, second: await step(options) };
}

const tree = (...names: string[]) => new Map(names.map((name) => [name, `the bytes of ${name}`]));

const branch = (name: string, version: Digest) =>
  moveBranch(repository, 'birds', name, { expect: 'absent', version, isGuarded: true });

const pin = (name: string, version: Digest) =>
  repository.bucket.put(`volumes/${name}`, Buffer.from(canonicalJson({ version })));

describe('a collection', () => {
  it('frees what no name leads to, in two steps a grace period apart', async () => {
    const kept = await maker.make(tree('a', 'b'));
    const lost = await maker.make(tree('b', 'c'));
    await branch('main', kept.id);
    await branch('other', lost.id);
    await deleteBranch(repository, 'birds', 'other');
    expect((await step()).plan?.condemned.versions.objects).toBe(0);
    age(directory, 2 * DAY);
    const before = await dataKeys(repository);
    const first = await step();
    expect(first.plan?.condemned.versions.objects).toBe(1);
    expect(first.plan?.condemned.packs.objects).toBe(1);
    expect(await dataKeys(repository)).toEqual(before);
    const early = await step();
    expect(early.swept).toBeUndefined();
    expect(early.waiting?.amounts.versions.objects).toBe(1);
    age(directory, 2 * DAY);
    expect((await step()).swept?.deleted.versions.objects).toBe(1);
    expect(await dataKeys(repository)).toEqual(await neededKeys(repository, [kept.id]));
    expect((await readState(repository)).phase).toBe('idle');
  });

  it('keeps what is named again between its two steps', async () => {
    const { id } = await maker.make(tree('a'));
    age(directory, 2 * DAY);
    await step();
    await writeTag(repository, 'birds', 'saved', { version: id });
    age(directory, 2 * DAY);
    const { swept } = await step();
    expect(swept?.deleted.versions.objects).toBe(0);
    expect(swept?.reprieved.versions.objects).toBe(1);
    expect(await dataKeys(repository)).toEqual(await neededKeys(repository, [id]));
  });

  it('keeps what was written again between its two steps, although nothing names it yet', async () => {
    await maker.make(tree('a'));
    age(directory, 2 * DAY);
    await step();
    age(directory, 2 * DAY);
    const again = await new VersionMaker(repository).make(tree('a'));
    expect((await step()).swept?.reprieved.packs.objects).toBe(1);
    await branch('main', again.id);
    expect(await dataKeys(repository)).toEqual(await neededKeys(repository, [again.id]));
  });

  it('keeps ancestors, what volumes and snapshots pin, and what a version was made from', async () => {
    const first = await maker.make(tree('a'));
    const second = await maker.make(tree('b'), { parents: [first.id] });
    const pinned = await maker.make(tree('c'));
    const origin = await maker.make(tree('d'));
    const model = await maker.make(tree('e'), { from: [{ dataset: 'data', version: origin.id }] });
    await branch('main', second.id);
    await branch('model', model.id);
    await pin('vol-1', pinned.id);
    await collectAll();
    const all = [first, second, pinned, origin, model].map(({ id }) => id);
    expect(await dataKeys(repository)).toEqual(await neededKeys(repository, all));
  });

  it('deletes nothing where a record does not tell what it pins, and says which', async () => {
    await maker.make(tree('a'));
    await repository.bucket.put('snapshots/snap-1', Buffer.from('{}\n'));
    age(directory, 2 * DAY);
    await expect(step()).rejects.toThrow(/snapshots\/snap-1/);
    expect((await readState(repository)).phase).toBe('idle');
  });

  it('deletes nothing where something needed is missing', async () => {
    const first = await maker.make(tree('a'));
    const second = await maker.make(tree('b'), { parents: [first.id] });
    await branch('main', second.id);
    await maker.make(tree('c'));
    await repository.bucket.delete(`versions/${first.id.slice(0, 2)}/${first.id}`);
    age(directory, 2 * DAY);
    await expect(step()).rejects.toMatchObject({ kind: 'corrupt', facts: { version: first.id } });
  });

  it('plans without changing anything', async () => {
    await maker.make(tree('a'));
    age(directory, 2 * DAY);
    const before = await dataKeys(repository);
    const { plan } = await step({ dryRun: true });
    expect(plan?.condemned.packs.objects).toBe(1);
    expect(await dataKeys(repository)).toEqual(before);
    expect(await repository.bucket.head('gc/state')).toBeUndefined();
  });

  it('thins a history out by rules, and marks where it ends', async () => {
    const versions: Digest[] = [];
    for (let day = 1; day <= 9; day++) {
      const time = `2025-03-0${day}T12:00:00.000Z`;
      const { id } = await maker.make(tree(`day ${day}`), { parents: versions.slice(-1), time });
      versions.push(id);
    }
    await branch('main', versions.at(-1)!);
    await writeTag(repository, 'birds', 'v2', { version: versions[1]!, isGuarded: true });
    await collectAll({ keep: { last: 3 } });
    const kept = [...versions.slice(-3), versions[1]!];
    expect(await dataKeys(repository)).toEqual(await neededKeys(repository, kept));
    expect(await readShallow(repository)).toEqual(new Set([versions[6], versions[1]]));
    // What is cut short on purpose is no damage.
    await collectAll();
    expect(await dataKeys(repository)).toEqual(await neededKeys(repository, kept));
  });

  it('writes a pack anew of which little is needed, and frees the old one', async () => {
    const names = Array.from({ length: 40 }, (_, i) => `file-${i}`);
    const long = (name: string) => [name, name.repeat(500)] as const;
    await maker.make(new Map(names.map(long)));
    const few = await maker.make(new Map(names.filter((_, i) => i % 10 === 3).map(long)));
    await branch('main', few.id);
    const { first, second } = await collectAll({ repack: true });
    expect(first.plan?.repack).toMatchObject({ packs: 1, done: true });
    expect(second.swept?.deleted.packs.objects).toBe(1);
    expect(await dataKeys(repository)).toEqual(await neededKeys(repository, [few.id]));
  });

  it('goes on with the work of one that was killed while it swept', async () => {
    const { id } = await maker.make(tree('a'));
    await maker.make(tree('b'));
    await branch('main', id);
    age(directory, 2 * DAY);
    await step();
    age(directory, 2 * DAY);
    const stopped = new AbortController();
    const deleted = repository.bucket.delete.bind(repository.bucket);
    let deletions = 0;
    repository.bucket.delete = async (...parameters) => {
      await deleted(...parameters);
      if (++deletions === 1) stopped.abort(new Error('killed'));
      if (deletions > 1) throw new Error('it should have stopped');
    };
    await expect(step({ signal: stopped.signal })).rejects.toThrow();
    repository.bucket.delete = deleted;
    expect((await readState(repository)).phase).toBe('sweeping');
    await expect(step()).rejects.toMatchObject({ kind: 'conflict' });
    age(directory, 2 * DAY);
    await step();
    expect(await dataKeys(repository)).toEqual(await neededKeys(repository, [id]));
  });

  it('finds exactly what a plain search finds, in random repositories', { timeout: 120_000 }, async () => {
    const random = createRandom(7);
    for (let round = 0; round < 4; round++) {
      const versions: { id: Digest; parents: readonly Digest[] }[] = [];
      for (let i = 0; i < 12; i++) {
        const files = new Map<string, string>();
        const count = 1 + random.below(60);
        for (let j = 0; j < count; j++) {
          const content = `content ${random.below(80)} `.repeat(1 + random.below(30));
          files.set(`d${random.below(5)}/f${random.below(200)}`, content);
        }
        const parents = random.oneIn(3) || versions.length === 0 ? [] : [random.pick(versions).id];
        versions.push(await maker.make(files, { parents }));
      }
      const roots: Digest[] = [];
      for (let i = 0; i < 3; i++) {
        const { id } = random.pick(versions);
        roots.push(id);
        if (random.oneIn(3)) await pin(`vol-${round}-${i}`, id);
        else await branch(`b${round}-${i}`, id);
      }
      const needed = new Set<Digest>();
      const visit = (id: Digest) => {
        needed.add(id);
        for (const parent of versions.find((version) => version.id === id)!.parents) visit(parent);
      };
      for (const root of roots) visit(root);
      await collectAll({ repack: random.oneIn(2) });
      for (const id of needed) await neededKeys(repository, [id]);
      // Packs that were written anew go with the second collection at the latest.
      await collectAll();
      // What this maker stored may be gone.
      maker = new VersionMaker(repository);
      const stored = await dataKeys(repository);
      const expected = await neededKeys(repository, await allNeeded());
      expect(stored).toEqual(expected);
    }
  });
});

/** All versions that names and pins lead to. */
async function allNeeded(): Promise<Set<Digest>> {
  const { readRoots } = await import('../../dataset/collect/roots.ts');
  const { readVersion } = await import('../../dataset/version.ts');
  const needed = new Set<Digest>();
  const waiting: Digest[] = [];
  for await (const { version } of readRoots(repository)) waiting.push(version);
  for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
    if (needed.has(id)) continue;
    needed.add(id);
    waiting.push(...(await readVersion(repository, id)).parents);
  }
  return needed;
}

describe('a writer beside a collection', () => {
  it('that saw nothing deleted names a version with one look at the state', async () => {
    const { id, root } = await maker.make(tree('a'));
    const since = await markSweeps(repository);
    expect(await guardPublish(repository, [{ root }, { version: id }], async () => 'named', { since })).toBe('named');
    expect(await repository.bucket.head(`gc/reprieves/root-${root}`)).toBeUndefined();
  });

  it('is told what is gone where deletions began since it looked, and names nothing', async () => {
    const { id, root } = await maker.make(tree('a'));
    const since = await markSweeps(repository);
    await collectAll();
    let named = false;
    const publish = async () => {
      named = true;
    };
    await expect(guardPublish(repository, [{ root }], publish, { since })).rejects.toMatchObject({
      kind: 'unavailable',
      facts: { collected: true },
    });
    await expect(guardPublish(repository, [{ version: id }], publish)).rejects.toMatchObject({ kind: 'not-found' });
    expect(named).toBe(false);
  });

  it('that names a version while deletions are under way keeps it', async () => {
    const spared = await maker.make(tree('a', 'b'));
    await maker.make(tree('x', 'y'));
    age(directory, 2 * DAY);
    await step();
    age(directory, 2 * DAY);
    // The first deletion is held back until the version has its name.
    const original = repository.bucket.put.bind(repository.bucket);
    const named = Promise.withResolvers<void>();
    const marking = Promise.withResolvers<void>();
    let puts = 0;
    repository.bucket.put = async (key, ...parameters) => {
      // The second change of the state begins the first turn: all is marked by then.
      if (key === 'gc/state' && ++puts === 2) {
        marking.resolve();
        await named.promise;
      }
      return await original(key, ...parameters);
    };
    const sweeping = step();
    await marking.promise;
    await moveBranch(repository, 'birds', 'main', { expect: 'absent', version: spared.id });
    named.resolve();
    const { swept } = await sweeping;
    repository.bucket.put = original;
    expect(swept?.deleted.versions.objects).toBe(1);
    expect(swept?.reprieved.versions.objects).toBe(1);
    expect(await dataKeys(repository)).toEqual(await neededKeys(repository, [spared.id]));
  });

  it('that was slow finds the ancestors of its version: those of young versions stay', async () => {
    const first = await maker.make(tree('a'));
    age(directory, 2 * DAY);
    await step();
    const second = await maker.make(tree('b'), { parents: [first.id] });
    utimesSync(join(directory, 'gc', 'state'), (Date.now() - 2 * DAY) / 1000, (Date.now() - 2 * DAY) / 1000);
    expect((await step()).swept?.reprieved.versions.objects).toBe(1);
    await writeTag(repository, 'birds', 'late', { version: second.id });
    await collectAll();
    expect(await dataKeys(repository)).toEqual(await neededKeys(repository, [first.id, second.id]));
  });

  it('takes the name back that took too long, where parts are gone', async () => {
    const { root } = await maker.make(tree('a'));
    let undone = false;
    const slow = async () => {
      await collectAll();
      await new Promise((resolve) => setTimeout(resolve, 2_100));
    };
    const undo = async () => {
      undone = true;
    };
    await expect(guardPublish(repository, [{ root }], slow, { undo })).rejects.toMatchObject({ kind: 'unavailable' });
    expect(undone).toBe(true);
  });
});

describe('two collectors', () => {
  it('do not both condemn', async () => {
    await maker.make(tree('a'));
    age(directory, 2 * DAY);
    const outcomes = await Promise.allSettled([step(), step()]);
    expect(outcomes.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThanOrEqual(1);
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ kind: 'conflict' });
    expect((await readState(repository)).phase).toBe('condemned');
  });
});

describe('an import', () => {
  it('of what is collected meanwhile names nothing, and stores it all when it is done again', async () => {
    const source = mkdtempSync(join(tmpdir(), 'larder-collect-source-'));
    process.env.LARDER_STATE = join(directory, '.state');
    try {
      for (let i = 0; i < 5; i++) writeFileSync(join(source, `f${i}`), `file ${i} `.repeat(100));
      const options = { repository, source, dataset: 'birds', message: '', author: 'a test' };
      await importDirectory({ ...options, branch: 'old' });
      await deleteBranch(repository, 'birds', 'old');
      age(directory, 2 * DAY);
      await step();
      age(directory, 2 * DAY);
      // It finds everything stored; then all of that is deleted, and then it asks whether it may name it.
      const original = repository.bucket.get.bind(repository.bucket);
      let asked = 0;
      repository.bucket.get = async (key, ...parameters) => {
        if (key === 'gc/state' && ++asked === 2) await step();
        return await original(key, ...parameters);
      };
      await expect(importDirectory({ ...options, branch: 'main' })).rejects.toMatchObject({
        kind: 'unavailable',
        facts: { collected: true },
      });
      repository.bucket.get = original;
      expect(await readBranch(repository, 'birds', 'main')).toBeUndefined();
      const { version } = await importDirectory({ ...options, branch: 'main' });
      await neededKeys(repository, [version.id]);
      const damages: unknown[] = [];
      for await (const damage of verifyRepository(repository, { deep: true })) damages.push(damage);
      expect(damages).toEqual([]);
    } finally {
      delete process.env.LARDER_STATE;
      rmSync(source, { recursive: true });
    }
  });
});
