import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { collect } from '../test/support/collect.ts';
import { createRandom } from '../test/support/random.ts';
import { describeRepositories, largestObject, overwrite } from '../test/support/repositories.ts';
import { deepDamage, namesIn, TestHistory } from '../test/support/test-history.ts';
import { readObject } from './bucket/read-object.ts';
import { copyNames } from './copy.ts';
import type { Digest } from './digest.ts';
import { importDirectory } from './import.ts';
import { DATASETS, LOCATIONS, PACKS, SEGMENTS, VERSIONS } from './keys.ts';
import { deleteBranch, deleteTag, moveBranch, readBranch } from './refs.ts';
import { type ChunkSource, repairRepository, repositorySource } from './repair.ts';
import { initRepository, openRepository, type Repository } from './repository.ts';
import { verifyRepository } from './verify.ts';
import { writeVersion } from './version.ts';

let top: string;
let versions: Digest[];
beforeAll(async () => {
  top = mkdtempSync(join(tmpdir(), 'larder-repair-test-'));
  process.env.LARDER_STATE = join(top, 'state');
  const sound = await initRepository(join(top, 'sound'));
  const history = new TestHistory(join(top, 'tree'), 3, 40);
  versions = [];
  for (let i = 0; i < 3; i++) {
    if (i > 0) history.change();
    versions.push(await history.import(sound, 'birds', 'main', `v${i}`));
  }
  await sound.bucket.close();
}, 60_000);
afterAll(() => rmSync(top, { recursive: true, force: true }));

let round = 0;
describeRepositories('repairing', (make, kind) => {
  let sound: Repository;
  let location: string;
  let repository: Repository;

  beforeEach(async () => {
    process.env.LARDER_STATE = join(top, `state-${++round}`);
    sound = await openRepository(join(top, 'sound'));
    location = await make();
    if (kind === 'directory') cpSync(join(top, 'sound'), location, { recursive: true });
    else {
      repository = await initRepository(location);
      await collect(copyNames({ from: sound, to: repository, dataset: 'birds' }));
      await repository.bucket.close();
    }
    repository = await openRepository(location);
  });

  afterEach(async () => {
    await repository.bucket.close();
    await sound.bucket.close();
    delete process.env.LARDER_STATE;
  });

  /** As another process would open it: nothing is kept from before the damage. */
  async function reopen(): Promise<void> {
    await repository.bucket.close();
    repository = await openRepository(location);
  }

  async function bytesOf(key: string): Promise<Buffer> {
    return (await readObject(repository.bucket, key, 1 << 30)).bytes;
  }

  async function flip(key: string, at = 0.5): Promise<void> {
    const bytes = Buffer.from(await bytesOf(key));
    bytes[Math.floor(bytes.length * at)]! ^= 0x10;
    await overwrite(repository, key, bytes);
    await reopen();
  }

  async function remove(key: string): Promise<void> {
    await repository.bucket.delete(key);
    await reopen();
  }

  /** A version without parents, whose tree lacks some of the last one's. */
  async function orphan(): Promise<Digest> {
    const source = join(top, `orphan-${round}`);
    cpSync(join(top, 'tree'), source, { recursive: true, preserveTimestamps: true });
    rmSync(join(source, 'd0'), { recursive: true });
    const imported = await importDirectory({
      repository,
      source,
      dataset: 'birds',
      branch: 'b',
      message: '',
      author: '',
    });
    await deleteBranch(repository, 'birds', 'b');
    const { root, entries, bytes } = imported.version;
    const fields = { root, entries, bytes, parents: [], author: '', message: '', meta: {} };
    return (await writeVersion(repository, fields)).id;
  }

  const repair = (more: object = {}) => repairRepository({ repository, sources: [repositorySource(sound)], ...more });

  it('puts back whatever object is damaged or missing', async () => {
    const random = createRandom(11);
    const names = await namesIn(repository, 'birds');
    for (let i = 0; i < (kind === 'directory' ? 7 : 4); i++) {
      const prefix = [VERSIONS, SEGMENTS, LOCATIONS, PACKS, DATASETS, PACKS, SEGMENTS][i % 7]!;
      const { key } = random.pick(await collect(repository.bucket.list(prefix)));
      const how = random.oneIn(2) && prefix !== DATASETS ? 'removed' : 'flipped';
      if (how === 'removed') await remove(key);
      else await flip(key, random.below(1000) / 1000);
      const context = `${key} ${how}`;
      const found = await deepDamage(repository);
      expect(
        found.map(({ object }) => object),
        context,
      ).toContain(key);
      const result = await repair();
      expect(result.remaining, context).toEqual([]);
      expect(result.found, context).toBeGreaterThanOrEqual(1);
      await reopen();
      expect(await deepDamage(repository), context).toEqual([]);
      expect(await namesIn(repository, 'birds')).toEqual(names);
    }
  }, 120_000);

  it('mends everything from a few versions of another repository when half of it is gone', async () => {
    const random = createRandom(5);
    for (const prefix of [VERSIONS, SEGMENTS, LOCATIONS, PACKS])
      for (const { key } of await collect(repository.bucket.list(prefix)))
        if (random.oneIn(2)) await repository.bucket.delete(key);
    await reopen();
    const result = await repair();
    expect(result.remaining).toEqual([]);
    expect(result.restored.length).toBeGreaterThan(3);
    await reopen();
    expect(await deepDamage(repository)).toEqual([]);
  });

  it('keeps the whole chunks of a damaged pack, fetches the others, and removes the pack', async () => {
    const { key } = await largestObject(repository.bucket, PACKS);
    // Not all that the pack holds is needed any more: what takes its place is another one.
    for (const name of ['v0', 'v1']) await deleteTag(repository, 'birds', name);
    await moveBranch(repository, 'birds', 'main', {
      expect: (await readBranch(repository, 'birds', 'main'))!,
      version: await orphan(),
      via: 'force',
    });
    await deleteTag(repository, 'birds', 'v2');
    await flip(key, 0.99);
    const { healed, removed, found } = await repair();
    expect(found).toBe(1);
    expect(healed.fetched).toBe(1);
    expect(healed.saved).toBeGreaterThan(10);
    expect(removed.map((pack) => `${PACKS}${pack.slice(0, 2)}/${pack}`)).toEqual([key]);
    expect(await repository.bucket.head(key)).toBeUndefined();
    // Nothing is left to be done.
    expect(await repair()).toMatchObject({ found: 0, restored: [], removed: [], remaining: [] });
  });

  it('puts a pack in the place of a damaged one where all that it held is needed', async () => {
    const { key, bytes } = await largestObject(repository.bucket, PACKS);
    await flip(key, 0.99);
    const { removed, remaining } = await repair();
    expect({ removed, remaining }).toEqual({ removed: [], remaining: [] });
    expect((await bytesOf(key)).equals(bytes)).toBe(true);
  });

  it('finds lost locations in the packs themselves, without anybody else', async () => {
    for (const { key } of await collect(repository.bucket.list(LOCATIONS))) await repository.bucket.delete(key);
    await reopen();
    const { healed, remaining } = await repair({ sources: [] });
    expect(remaining).toEqual([]);
    expect(healed).toMatchObject({ fetched: 0, saved: 0, bytes: 0 });
    expect(healed.found).toBeGreaterThan(40);
    expect(await deepDamage(repository)).toEqual([]);
  });

  it('names what stays damaged, and the files that it affects, and keeps the rest readable', async () => {
    const { key } = await largestObject(repository.bucket, PACKS);
    await flip(key, 0.99);
    const before = await deepDamage(repository);
    const { healed, removed, remaining } = await repair({ sources: [] });
    expect(remaining).toEqual(before);
    expect(remaining[0]!.affectedCount).toBeGreaterThan(0);
    expect(healed.fetched).toBe(0);
    expect(removed).toEqual([]);
    const mended = await repair();
    expect(mended.remaining).toEqual([]);
    expect(mended.healed.fetched).toBe(1);
  });

  it('takes chunks from whoever has the files, and stores nothing that is not what it is asked for', async () => {
    const { key } = await largestObject(repository.bucket, PACKS);
    await flip(key, 0.99);
    const asked: string[] = [];
    const liar: ChunkSource = {
      name: 'a liar',
      async chunk({ id, length }) {
        asked.push(id);
        return Buffer.alloc(length, 1);
      },
    };
    expect((await repair({ sources: [liar] })).remaining.length).toBe(1);
    expect(asked.length).toBe(1);
    const large = readFileSync(join(top, 'tree', 'large'));
    const files: ChunkSource = {
      name: 'files',
      async chunk({ length, places: [place] }) {
        return large.subarray(place!.offset, place!.offset + length);
      },
    };
    expect(await repair({ sources: [liar, files] })).toMatchObject({ remaining: [], healed: { fetched: 1 } });
    expect(await deepDamage(repository)).toEqual([]);
  });

  it('repairs only what some names lead to, if that is what it is asked for', async () => {
    const { key } = await largestObject(repository.bucket, PACKS);
    await flip(key, 0.99);
    const { remaining, removed } = await repair({ names: ['birds@v0'] });
    expect(remaining).toEqual([]);
    // Others may need it.
    expect(removed).toEqual([]);
    expect(await collect(verifyRepository(repository, { names: ['birds@v0'], deep: true }))).toEqual([]);
    expect((await repair()).remaining).toEqual([]);
    expect(await deepDamage(repository)).toEqual([]);
  });

  it('an import of the same files stores again what a deep look found damaged, and a repair then finds it', async () => {
    const source = join(top, `again-${round}`);
    cpSync(join(top, 'tree'), source, { recursive: true, preserveTimestamps: true });
    const again = () =>
      importDirectory({ repository, source, dataset: 'again', branch: 'main', message: '', author: '' });
    await again();
    const { key } = await largestObject(repository.bucket, PACKS);
    await flip(key, 0.99);
    expect((await deepDamage(repository)).length).toBe(1);
    await importDirectory({ repository, source, dataset: 'again', branch: 'other', message: '', author: '' });
    const { remaining, healed } = await repair({ sources: [] });
    expect(remaining).toEqual([]);
    expect(healed.fetched).toBe(0);
    expect(await deepDamage(repository)).toEqual([]);
  });

  it('a version that is missing in the middle of a history is put back', async () => {
    const key = `${VERSIONS}${versions[1]!.slice(0, 2)}/${versions[1]}`;
    await remove(key);
    const found = await deepDamage(repository);
    expect(found).toMatchObject([{ object: key, kind: 'missing' }]);
    expect((await repair({ sources: [] })).remaining).toMatchObject([{ object: key }]);
    expect(await repair()).toMatchObject({ restored: [key], remaining: [] });
  });
});
