import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Digest } from '../dataset/digest.ts';
import { deleteBranch, moveBranch } from '../dataset/refs.ts';
import { initRepository, type Repository } from '../dataset/repository.ts';
import { VersionMaker } from '../test/collect/small-versions.ts';
import { describeRepositories } from '../test/support/repositories.ts';
import { conditionOf } from './condition.ts';
import { createLedger } from './ledger.ts';
import { createVolume, readVolume, type VolumeRequest } from './volumes.ts';

const node = { node: 'node-7', instance: 'i' };
const alive = { look: async () => 40_000 };
const gone = { look: async () => 0 };

describeRepositories('the condition of a volume', (make) => {
  let repository: Repository;
  let maker: VersionMaker;
  let version: Digest;
  let names = 0;

  beforeAll(async () => {
    repository = await initRepository(await make());
    maker = new VersionMaker(repository);
    version = (await maker.make(new Map([['f', 'first']]))).id;
    await moveBranch(repository, 'birds', 'main', { expect: 'absent', version });
  });
  afterAll(async () => await repository.bucket.close());

  const create = (changes: Partial<VolumeRequest> = {}) =>
    createVolume(repository, {
      name: `pvc-${names++}`,
      kind: 'workspace',
      source: { dataset: 'birds' },
      capacity: {},
      ...changes,
    });

  it('says what a pinned volume is', async () => {
    const pinned = await create({ kind: 'pinned' });
    expect(await conditionOf(repository, pinned, alive)).toEqual({
      summary: `version ${version.slice(0, 12)} of birds`,
      problems: [],
    });
  });

  it('says who has a workspace, since when, and when it was saved last', async () => {
    const ledger = createLedger({ repository, nodes: alive, now: () => new Date('2026-03-04T05:06:07.000Z') });
    const { id } = await create();
    const condition = async () => await conditionOf(repository, await readVolume(repository, id), alive);
    expect((await condition()).summary).toMatch(/on no node; no changes were saved$/);
    const { generation } = await ledger.take(id, node);
    const next = (await maker.make(new Map([['f', 'second']]), { parents: [version] })).id;
    await ledger.saved(id, generation, next);
    expect(await condition()).toEqual({
      summary: expect.stringMatching(
        /on node node-7 since 2026-03-04T05:06:07.000Z; changes were saved last at 2026-03-04T05:06:07.000Z$/,
      ),
      problems: [],
    });
    await ledger.release(id, generation, 'unsaved');
    expect((await condition()).summary).toMatch(/node node-7 is saving its last changes$/);
    await ledger.release(id, generation, 'saved');
    expect((await condition()).summary).toMatch(/on no node; changes were saved last at/);
  });

  it('tells of a holder that gives no signs of life', async () => {
    const { id } = await create();
    await createLedger({ repository, nodes: alive }).take(id, node);
    const { problems } = await conditionOf(repository, await readVolume(repository, id), gone);
    expect(problems).toEqual([
      {
        reason: 'holder-lost',
        message: expect.stringMatching(/node-7 .* gives no signs of life.*set aside as a branch/),
      },
    ]);
  });

  it('tells of changes that were set aside until their branch is gone', async () => {
    const ledger = createLedger({ repository, nodes: gone });
    const { id } = await create();
    const { volume } = await ledger.take(id, node);
    const changes = (await maker.make(new Map([['f', 'late']]), { parents: [version] })).id;
    const branch = await ledger.setAside({ volume, node: node.node, generation: 1, version: changes });
    const condition = async () => await conditionOf(repository, await readVolume(repository, id), alive);
    expect((await condition()).problems).toEqual([
      { reason: 'changes-set-aside', message: expect.stringContaining(`birds@${branch}`) },
    ]);
    await deleteBranch(repository, 'birds', branch);
    expect((await condition()).problems).toEqual([]);
  });

  it('tells of a branch that is followed and gone', async () => {
    await moveBranch(repository, 'birds', 'nightly', { expect: 'absent', version });
    const following = await create({
      kind: 'pinned',
      source: { dataset: 'birds', ref: 'nightly' },
      settings: { retention: 'drop', follow: true },
    });
    expect(await conditionOf(repository, following, alive)).toEqual({
      summary: expect.stringMatching(/found at nightly when it was looked up last; the next stage looks again/),
      problems: [],
    });
    await deleteBranch(repository, 'birds', 'nightly');
    expect((await conditionOf(repository, following, alive)).problems).toEqual([
      {
        reason: 'reference-gone',
        message: expect.stringMatching(/birds@nightly, which is gone.*no node can stage it/),
      },
    ]);
  });
});
