import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { isCollected } from '../dataset/collect/guard.ts';
import { readState } from '../dataset/collect/state.ts';
import { collect } from '../dataset/collect.ts';
import type { Digest } from '../dataset/digest.ts';
import { NotFoundError } from '../dataset/errors.ts';
import { deleteBranch, moveBranch, readBranch } from '../dataset/refs.ts';
import { initRepository, type Repository } from '../dataset/repository.ts';
import type { Version } from '../dataset/version.ts';
import { age, neededKeys, VersionMaker } from '../test/collect/small-versions.ts';
import { createRandom } from '../test/support/random.ts';
import { describeRepositories } from '../test/support/repositories.ts';
import { slowly } from '../test/support/slow-bucket.ts';
import { createLedger } from './ledger.ts';
import { modifyVolume } from './modify.ts';
import { pinnedBy } from './volume.ts';
import { createVolume, deleteVolume, readVolume } from './volumes.ts';

const DAY = 86_400_000;
const nodes = { look: async () => 0 };
const A = { node: 'node-a', instance: 'ia' };
const B = { node: 'node-b', instance: 'ib' };

const tree = (text: string) => new Map([['f', text]]);

describe('a collection', () => {
  let directory: string;
  let repository: Repository;
  let maker: VersionMaker;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'larder-volumes-'));
    repository = await initRepository(directory);
    maker = new VersionMaker(repository);
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await repository.bucket.close();
    rmSync(directory, { recursive: true });
  });

  const step = () => collect({ repository, timing: { settle: 0 }, repack: false, keep: { last: 1 } });
  async function collectAll() {
    for (let i = 0; i < 2; i++) {
      age(directory, 2 * DAY);
      await step();
    }
    age(directory, 2 * DAY);
  }
  const isThere = async (id: Digest) =>
    (await repository.bucket.head(`versions/${id.slice(0, 2)}/${id}`)) !== undefined;
  const workspace = async (version: Digest) => {
    await moveBranch(repository, 'birds', 'made', { expect: 'absent', version });
    const source = { dataset: 'birds', ref: 'made' };
    const volume = await createVolume(repository, { name: 'pvc', kind: 'workspace', source, capacity: {} });
    await deleteBranch(repository, 'birds', 'made');
    return volume;
  };

  it("keeps a volume's base, its last save and what lies under its image, and frees the saves before", async () => {
    const base = await maker.make(tree('base'));
    const { id } = await workspace(base.id);
    const ledger = createLedger({ repository, nodes });
    const save = async (text: string, generation: number) => {
      const version = await maker.make(tree(text), { parents: [base.id] });
      await ledger.saved(id, generation, version.id);
      return version;
    };
    await ledger.take(id, A);
    const lost = await save('first', 1);
    const lower = await save('second', 1);
    // Another node begins on the second save, and goes on from there.
    await ledger.take(id, B);
    const middle = await save('third', 2);
    const last = await save('fourth', 2);
    await collectAll();
    expect(await Promise.all([base, lower, last].map((version) => isThere(version.id)))).toEqual([true, true, true]);
    expect(await Promise.all([lost, middle].map((version) => isThere(version.id)))).toEqual([false, false]);
    await neededKeys(repository, pinnedBy(await readVolume(repository, id)));
    await deleteVolume(repository, id, { nodes });
    await collectAll();
    expect(await Promise.all([base, lower, last].map((version) => isThere(version.id)))).toEqual([false, false, false]);
  });

  it('keeps the version that a pod may have mounted when its pinned volume was given another', async () => {
    const [one, two] = [await maker.make(tree('one')), await maker.make(tree('two'))];
    await moveBranch(repository, 'birds', 'main', { expect: 'absent', version: one.id });
    const source = { dataset: 'birds' };
    const { id } = await createVolume(repository, { name: 'pvc', kind: 'pinned', source, capacity: {} });
    const head = await readBranch(repository, 'birds', 'main');
    await moveBranch(repository, 'birds', 'main', { expect: head!, version: two.id });
    await modifyVolume(repository, id, { version: 'main' });
    await collectAll();
    await neededKeys(repository, [one.id, two.id]);
  });

  it('that has taken parts of a save meanwhile is noticed, and the record is as it was', async () => {
    const base = await maker.make(tree('base'));
    const { id } = await workspace(base.id);
    const { version } = await createLedger({ repository, nodes })
      .take(id, A)
      .then(({ volume }) => volume);
    expect(version).toBe(base.id);
    const before = await readVolume(repository, id);
    const save = await maker.make(tree('a save'), { parents: [base.id] });
    age(directory, 2 * DAY);
    await step();
    age(directory, 2 * DAY);
    let isSwept = false;
    const beforePut = async (key: string) => {
      if (!key.startsWith('volumes/') || isSwept) return;
      isSwept = true;
      // All of a collection, between the look that found the version whole and the record that names it.
      await step();
      const now = Date.now();
      vi.spyOn(Date, 'now').mockReturnValue(now + 60_000);
    };
    const slow = slowly(repository, createRandom(1), { longest: 1, beforePut });
    const saving = createLedger({ repository: slow, nodes }).saved(id, 1, save.id);
    const error = await saving.catch((error) => error);
    expect(isCollected(error), String(error)).toBe(true);
    expect(await isThere(save.id)).toBe(false);
    expect(await readVolume(repository, id)).toEqual(before);
  });
});

describeRepositories('a collection beside saves', (make, kind) => {
  let repository: Repository;
  beforeAll(async () => {
    repository = await initRepository(await make());
  });
  afterAll(async () => await repository.bucket.close());

  it('deletes saves that were replaced, and nothing that a record keeps', async () => {
    const random = createRandom(kind === 'S3' ? 2 : 1);
    const base = await new VersionMaker(repository).make(tree('base'));
    await moveBranch(repository, 'birds', 'made', { expect: 'absent', version: base.id });
    const source = { dataset: 'birds', ref: 'made' };
    const ids = await Promise.all(
      ['one', 'two'].map(async (name) => {
        return (await createVolume(repository, { name, kind: 'workspace', source, capacity: {} })).id;
      }),
    );
    await deleteBranch(repository, 'birds', 'made');
    let isOver = false;
    let saves = 0;
    const saver = async (id: string, number: number) => {
      const ledger = createLedger({ repository: slowly(repository, random), nodes });
      let generation = 0;
      while (!isOver) {
        if (generation === 0 || random.oneIn(4)) {
          ({ generation } = await ledger.take(id, random.pick([A, B])));
          const { lower } = await readVolume(repository, id);
          expect(lower).toBeDefined();
        }
        // Contents come again, so that a save may rely on what is being deleted.
        const version = await store(`${number} ${random.below(3)}`, base.id);
        try {
          if (version !== undefined) await ledger.saved(id, generation, version.id);
          saves += 1;
        } catch (error) {
          if (!isCollected(error) && !(error instanceof NotFoundError)) throw error;
        }
        await sleep(50);
      }
    };
    const store = async (text: string, parent: Digest): Promise<Version | undefined> => {
      try {
        return await new VersionMaker(repository).make(tree(text), { parents: [parent] });
      } catch (error) {
        // What it had just stored was collected: told by reading it back.
        if (error instanceof NotFoundError || isCollected(error)) return undefined;
        throw error;
      }
    };
    const collector = async () => {
      try {
        let deleted = 0;
        for (let round = 0; round < 8 && deleted === 0; round++) {
          const { swept } = await collect({ repository, grace: 300, keep: { last: 1 }, repack: false });
          deleted += swept?.deleted.versions.objects ?? 0;
          await sleep(400);
        }
        return deleted;
      } finally {
        isOver = true;
      }
    };
    const [deleted] = await Promise.all([collector(), ...ids.map(saver)]);
    expect(deleted).toBeGreaterThan(0);
    expect(saves).toBeGreaterThan(3);
    expect((await readState(repository)).turn).toBeGreaterThan(0);
    for (const id of ids) await neededKeys(repository, pinnedBy(await readVolume(repository, id)));
  }, 60_000);
});
