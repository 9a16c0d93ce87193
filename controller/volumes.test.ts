import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Digest } from '../dataset/digest.ts';
import { ConflictError, InvalidError, NotFoundError } from '../dataset/errors.ts';
import { moveBranch, readBranch, writeTag } from '../dataset/refs.ts';
import { initRepository, type Repository } from '../dataset/repository.ts';
import { VolumeHeldError } from '../dataset/volume-terms.ts';
import { VersionMaker } from '../test/collect/small-versions.ts';
import { createRandom } from '../test/support/random.ts';
import { describeRepositories } from '../test/support/repositories.ts';
import { slowly } from '../test/support/slow-bucket.ts';
import { CapacityError } from './capacity.ts';
import { createLedger } from './ledger.ts';
import { expandVolume, modifyVolume, volumeToStage } from './modify.ts';
import { changeVolume, createVolume, deleteVolume, listVolumes, readVolume, type VolumeRequest } from './volumes.ts';

const GIB = 2 ** 30;
const node = { node: 'n', instance: 'i' };

describeRepositories('volumes', (make) => {
  let repository: Repository;
  let maker: VersionMaker;
  let first: Digest;
  let second: Digest;
  let names = 0;

  beforeAll(async () => {
    repository = await initRepository(await make());
    maker = new VersionMaker(repository);
    first = (await version('first')).id;
    second = (await version('second', [first])).id;
    await moveBranch(repository, 'birds', 'main', { expect: 'absent', version: second });
    await writeTag(repository, 'birds', 'v1', { version: first });
    await moveBranch(repository, 'fish', 'main', { expect: 'absent', version: first });
  });
  afterAll(async () => await repository.bucket.close());

  const version = (text: string, parents: readonly Digest[] = []) => maker.make(new Map([['f', text]]), { parents });
  const request = (changes: Partial<VolumeRequest> = {}): VolumeRequest => ({
    name: `pvc-${names++}`,
    kind: 'workspace',
    source: { dataset: 'birds' },
    capacity: {},
    ...changes,
  });
  const create = (changes: Partial<VolumeRequest> = {}) => createVolume(repository, request(changes));
  /** A workspace of which a node has saved something. */
  async function saved(text: string, changes: Partial<VolumeRequest> = {}) {
    const volume = await create(changes);
    const ledger = createLedger({ repository, nodes: { look: async () => 40_000 } });
    const { id } = await version(text, [volume.base]);
    const { generation } = await ledger.take(volume.id, node);
    await ledger.saved(volume.id, generation, id);
    return {
      ledger,
      id: volume.id,
      name: volume.name,
      content: id,
      release: () => ledger.release(volume.id, generation, 'saved'),
    };
  }
  const head = async (branch: string) => (await readBranch(repository, 'birds', branch))?.version;

  it('are made of a version, with what was asked for', async () => {
    const settings = { retention: 'keep', uid: 7, autosave: 5_000 } as const;
    const volume = await create({ source: { dataset: 'birds', ref: 'v1' }, settings });
    expect(await readVolume(repository, volume.id)).toEqual(volume);
    expect(volume).toMatchObject({
      base: first,
      version: first,
      ref: 'v1',
      generation: 0,
      settings,
      capacityBytes: GIB,
    });
    expect(volume.asked).toEqual({ ref: 'v1', capacityBytes: GIB, settings });
  });

  it('are found by those who ask again, whatever was changed since', async () => {
    const asked = request({
      kind: 'pinned',
      settings: { retention: 'drop', prefetch: 'all' },
      capacity: { limit: GIB },
    });
    const volume = await createVolume(repository, asked);
    await modifyVolume(repository, volume.id, { version: 'v1', prefetch: 'none', retention: 'keep' });
    const changed = await expandVolume(repository, volume.id, { required: 2 * GIB });
    expect(await createVolume(repository, asked)).toEqual(changed);
    // What it is now is not what was asked for.
    const settings = { retention: 'keep' } as const;
    await expect(createVolume(repository, { ...asked, settings })).rejects.toThrow(
      /its prefetch is all, not the default/,
    );
  });

  it.each([
    [{ kind: 'pinned' }, /it is a workspace, not a pinned/],
    [{ source: { dataset: 'birds', ref: 'v1' } }, /it was made from birds, not birds@v1/],
    [{ source: { dataset: 'fish' } }, /it was made from birds, not fish/],
    [{ settings: { retention: 'keep' } }, /its retention is drop, not keep/],
    [{ settings: { retention: 'drop', mode: 0o700 } }, /its mode is the default, not 448/],
    [{ capacity: { required: 2 * GIB } }, /made with 1073741824 bytes/],
    [{ origin: { kind: 'volume', id: 'vol-x' } }, /it was made from a dataset, not from volume "vol-x"/],
  ] as [Partial<VolumeRequest>, RegExp][])('are not made twice with other properties: %j', async (changes, message) => {
    const { name } = await create();
    await expect(create({ name, ...changes })).rejects.toThrow(ConflictError);
    await expect(create({ name, ...changes })).rejects.toThrow(message);
  });

  it('that follow a reference are pinned, and of one that can move', async () => {
    const follow = { retention: 'drop', follow: true } as const;
    const refused = async (changes: Partial<VolumeRequest>) => {
      const error = await create({ kind: 'pinned', settings: follow, ...changes }).catch((error) => error);
      expect(error).toBeInstanceOf(InvalidError);
      return error.message;
    };
    expect(await refused({ kind: 'workspace' })).toMatch(/"follow": a workspace has changes/);
    expect(await refused({ source: { dataset: 'birds', ref: first } })).toMatch(
      /"follow": birds@[0-9a-f]+ is one version/,
    );
    const { id } = await create();
    expect(await refused({ origin: { kind: 'volume', id } })).toMatch(
      /"follow": what is made of a volume has no branch/,
    );
  });

  it('that follow a branch are looked up anew at each stage, and keep what pods may have', async () => {
    await moveBranch(repository, 'birds', 'moving', { expect: 'absent', version: first });
    const source = { dataset: 'birds', ref: 'moving' };
    const still = await create({ kind: 'pinned', source });
    const { id } = await create({ kind: 'pinned', source, settings: { retention: 'drop', follow: true } });
    expect((await volumeToStage(repository, id)).version).toBe(first);
    const there = await readBranch(repository, 'birds', 'moving');
    await moveBranch(repository, 'birds', 'moving', { expect: there!, version: second });
    expect(await volumeToStage(repository, id)).toMatchObject({ version: second, base: first, kept: [first] });
    expect(await volumeToStage(repository, id)).toEqual(await readVolume(repository, id));
    expect(await volumeToStage(repository, still.id)).toEqual(still);
    await modifyVolume(repository, id, { follow: 'false' });
    expect((await readVolume(repository, id)).settings).toEqual({ retention: 'drop' });
  });

  it('that are pinned take another version when they are told to', async () => {
    const { id } = await create({ kind: 'pinned' });
    const volume = await modifyVolume(repository, id, { version: 'v1' });
    expect(volume).toMatchObject({ version: first, ref: 'v1', base: second, kept: [second], asked: { settings: {} } });
    expect(await modifyVolume(repository, id, { version: 'v1' })).toEqual(volume);
    // What it follows is checked at once.
    await expect(modifyVolume(repository, id, { version: first, follow: 'true' })).rejects.toThrow(
      /"follow": .*one version/,
    );
    await modifyVolume(repository, id, { version: first });
    await expect(modifyVolume(repository, id, { follow: 'true' })).rejects.toThrow(/"follow": .*one version/);
    await modifyVolume(repository, id, { version: 'main', follow: 'true' });
    await expect(modifyVolume(repository, id, { version: first })).rejects.toThrow(/"follow": .*one version/);
    expect(await readVolume(repository, id)).toMatchObject({
      version: second,
      ref: 'main',
      settings: { follow: true },
    });
    await expect(modifyVolume(repository, id, { version: 'v9' })).rejects.toThrow(NotFoundError);
  });

  it('that are workspaces change in what their content has nothing to do with', async () => {
    const { id } = await create();
    const changes = { autosave: '30s', bandwidth: '1G', deadline: '1m', prefetch: '*.txt', retention: 'keep' };
    const { settings } = await modifyVolume(repository, id, changes);
    expect(settings).toEqual({
      autosave: 30_000,
      bandwidth: GIB,
      deadline: 60_000,
      prefetch: '*.txt',
      retention: 'keep',
    });
    expect(await modifyVolume(repository, id, {})).toEqual(await readVolume(repository, id));
    for (const refused of [{ version: 'v1' }, { follow: 'true' }] as Record<string, string>[])
      await expect(modifyVolume(repository, id, refused)).rejects.toThrow(
        /"(version|follow)": volume .* is a workspace/,
      );
  });

  it('that are not there are what a modification fails for first', async () => {
    const { id } = await create();
    await deleteVolume(repository, id);
    for (const none of [id, 'no volume at all'])
      await expect(modifyVolume(repository, none, { iops: '7' })).rejects.toThrow(NotFoundError);
    await expect(expandVolume(repository, id, { required: 1 })).rejects.toThrow(NotFoundError);
  });

  it('grow, and never shrink', async () => {
    const { id } = await create();
    expect((await expandVolume(repository, id, { required: GIB + 1 })).capacityBytes).toBe(GIB + 1);
    expect((await expandVolume(repository, id, { required: GIB })).capacityBytes).toBe(GIB + 1);
    expect((await expandVolume(repository, id, {})).capacityBytes).toBe(GIB + 1);
    for (const range of [{ limit: GIB }, { required: 2, limit: 1 }, { required: 2 ** 44 }])
      await expect(expandVolume(repository, id, range)).rejects.toThrow(CapacityError);
  });

  it('are cloned as their last save has them, without anything of the first being copied', async () => {
    const { id, content, release } = await saved('to be cloned', { capacity: { required: 3 * GIB } });
    const clone = await create({ origin: { kind: 'volume', id } });
    expect(clone).toMatchObject({
      dataset: 'birds',
      base: content,
      version: content,
      generation: 0,
      capacityBytes: 3 * GIB,
      source: { kind: 'volume', id },
    });
    expect(clone.ref).toBeUndefined();
    const reader = await create({ kind: 'pinned', origin: { kind: 'volume', id }, source: undefined });
    expect(reader).toMatchObject({ kind: 'pinned', version: content });
    await release();
    await deleteVolume(repository, id);
    const again = request({
      name: clone.name,
      origin: { kind: 'volume', id },
      source: { dataset: 'birds', ref: 'v1' },
    });
    // The class names a dataset too; which version of it is settled by what is cloned.
    expect(await createVolume(repository, again)).toEqual(clone);
    await expect(create({ origin: { kind: 'volume', id } })).rejects.toThrow(NotFoundError);
  });

  it('are restored from snapshots', async () => {
    const origin = { kind: 'snapshot', id: 'snap-1', dataset: 'birds', version: first } as const;
    const volume = await create({ origin });
    expect(volume).toMatchObject({ base: first, version: first, source: { kind: 'snapshot', id: 'snap-1' } });
    expect(await create({ name: volume.name, origin })).toEqual(volume);
    const other = { ...origin, id: 'snap-2' };
    await expect(create({ name: volume.name, origin: other })).rejects.toThrow(
      /from snapshot "snap-1", not from snapshot "snap-2"/,
    );
    await expect(create({ name: volume.name })).rejects.toThrow(/from snapshot "snap-1", not from a dataset/);
    await expect(create({ origin, source: { dataset: 'fish' } })).rejects.toThrow(
      /"dataset": the snapshot is of 'birds', not of 'fish'/,
    );
    await expect(create({ source: undefined })).rejects.toThrow(/"dataset": it is missing/);
    const gone = { ...origin, version: '0'.repeat(64) as Digest };
    await expect(create({ origin: gone })).rejects.toThrow(NotFoundError);
  });

  it('leave nothing when they are deleted, and may be deleted again', async () => {
    const { id, name } = await create();
    expect(await deleteVolume(repository, id)).toEqual({});
    expect(await deleteVolume(repository, id)).toEqual({});
    expect(await deleteVolume(repository, 'no volume at all')).toEqual({});
    await expect(readVolume(repository, id)).rejects.toThrow(NotFoundError);
    await expect(changeVolume(repository, id, (volume) => ({ ...volume, generation: 9 }))).rejects.toThrow(
      NotFoundError,
    );
    // Another of the same name is another volume.
    const other = await create({ name });
    expect(other.id).not.toBe(id);
    await deleteVolume(repository, id);
    expect(await readVolume(repository, other.id)).toEqual(other);
    expect((await listVolumes(repository)).volumes.map((each) => each.id)).toContain(other.id);
  });

  it('leave a branch with their content where that is to be kept', async () => {
    const keep = { settings: { retention: 'keep' } } as const;
    const one = await saved('kept', keep);
    await one.release();
    expect(await deleteVolume(repository, one.id)).toEqual({ branch: `volumes/${one.name}` });
    expect(await head(`volumes/${one.name}`)).toBe(one.content);
    // The next of that name has other content, and one that comes after a crash has the same.
    const two = await saved('kept too', { name: one.name, ...keep });
    await two.release();
    expect(await deleteVolume(repository, two.id)).toEqual({ branch: `volumes/${one.name}-2` });
    const origin = { kind: 'snapshot', id: 's', dataset: 'birds', version: two.content } as const;
    const three = await create({ name: one.name, origin, ...keep });
    expect(await deleteVolume(repository, three.id)).toEqual({ branch: `volumes/${one.name}-2` });
    await writeTag(repository, 'birds', 'volumes/a tag', { version: first });
    const four = await create({ name: 'a tag', ...keep });
    expect(await deleteVolume(repository, four.id)).toEqual({ branch: 'volumes/a tag-2' });
    expect(await head('volumes/a tag-2')).toBe(second);
  });

  it('are not deleted while a node holds them and lives', async () => {
    const { id, name, ledger, release } = await saved('in use');
    await expect(deleteVolume(repository, id)).rejects.toThrow(VolumeHeldError);
    const alive = { look: async () => 7_000 };
    await expect(deleteVolume(repository, id, { nodes: alive })).rejects.toThrow(
      new RegExp(`volume "${name}" .* is not deleted, it is in use on node n .* 7 s more`),
    );
    await ledger.release(id, 1, 'unsaved');
    await expect(deleteVolume(repository, id, { nodes: alive })).rejects.toThrow(/still saving its last changes/);
    await ledger.take(id, node, { image: second });
    await release();
    await deleteVolume(repository, id, { nodes: alive });
    // A node that is gone holds back nobody: what it did not save it sets aside, if it ever comes back.
    const lost = await saved('of a node that is gone', { settings: { retention: 'keep' } });
    expect(await deleteVolume(repository, lost.id, { nodes: { look: async () => 0 } })).toEqual({
      branch: `volumes/${lost.name}`,
    });
  });

  it('are changed by many at once, and no change is lost', async () => {
    const random = createRandom(3);
    const { id } = await create();
    const raise = (of: Repository) =>
      changeVolume(of, id, (volume) => ({ ...volume, generation: volume.generation + 1 }), {
        wait: async () => undefined,
      });
    await Promise.all(Array.from({ length: 8 }, () => raise(slowly(repository, random))));
    expect((await readVolume(repository, id)).generation).toBe(8);
  });

  it('are not changed for ever where somebody else changes them all the time', async () => {
    const { id } = await create();
    const waits: number[] = [];
    const beforePut = async () => {
      const bytes = (await readVolume(repository, id)).capacityBytes + 1;
      await changeVolume(repository, id, (volume) => ({ ...volume, capacityBytes: bytes }));
    };
    const other = slowly(repository, createRandom(1), { longest: 1, beforePut });
    const wait = async (milliseconds: number) => waits.push(milliseconds);
    const change = changeVolume(other, id, (volume) => ({ ...volume, generation: 1 }), { wait });
    await expect(change).rejects.toMatchObject({ kind: 'unavailable' });
    expect(waits).toHaveLength(15);
    expect(Math.max(...waits)).toBeLessThanOrEqual(2_000);
    expect((await readVolume(repository, id)).generation).toBe(0);
  });
});
