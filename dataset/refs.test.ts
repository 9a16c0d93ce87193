import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { describeRepositories, overwrite } from '../test/support/repositories.ts';
import { type Digest, sha256 } from './digest.ts';
import { ConflictError, CorruptError, InvalidError, NotFoundError } from './errors.ts';
import {
  deleteBranch,
  deleteDataset,
  deleteTag,
  listBranches,
  listDatasets,
  listTags,
  moveBranch,
  parseDatasetName,
  protectBranch,
  readBranch,
  readTag,
  resolveName,
  writeTag,
} from './refs.ts';
import { initRepository, type Repository } from './repository.ts';
import { writeVersion } from './version.ts';

let repository: Repository;
let one: Digest;
let two: Digest;

describeRepositories('refs', (make) => {
  beforeEach(async () => {
    repository = await initRepository(await make());
    [one, two] = [await version('one'), await version('two')];
  });

  afterEach(async () => {
    await repository.bucket.close();
  });

  describe('a branch', () => {
    test('moves from what its mover saw, and else tells where it is', async () => {
      const first = await moveBranch(repository, 'd', 'main', { expect: 'absent', version: one });
      expect(await readBranch(repository, 'd', 'main')).toEqual(first);
      const second = await moveBranch(repository, 'd', 'main', { expect: first.etag, version: two });
      const late = moveBranch(repository, 'd', 'main', { expect: first.etag, version: one });
      await expect(late).rejects.toThrow(ConflictError);
      await expect(late).rejects.toThrow(`is now at version ${two.slice(0, 12)}`);
      await expect(moveBranch(repository, 'd', 'main', { expect: 'absent', version: one })).rejects.toThrow(
        'exists already',
      );
      expect(await readBranch(repository, 'd', 'main')).toEqual(second);
    });

    test('is moved by one of many at once', async () => {
      const { etag } = await moveBranch(repository, 'd', 'main', { expect: 'absent', version: one });
      const moves = Array.from({ length: 10 }, () =>
        moveBranch(repository, 'd', 'main', { expect: etag, version: two }),
      );
      const ends = await Promise.allSettled(moves);
      expect(ends.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    });

    test('that was deleted is not brought back by a move', async () => {
      const { etag } = await moveBranch(repository, 'd', 'x', { expect: 'absent', version: one });
      await deleteBranch(repository, 'd', 'x', { expect: etag });
      await expect(moveBranch(repository, 'd', 'x', { expect: etag, version: two })).rejects.toThrow('was deleted');
      expect(await readBranch(repository, 'd', 'x')).toBeUndefined();
    });

    test('that moved is not deleted by who saw it before', async () => {
      const { etag } = await moveBranch(repository, 'd', 'x', { expect: 'absent', version: one });
      await moveBranch(repository, 'd', 'x', { expect: etag, version: two });
      await expect(deleteBranch(repository, 'd', 'x', { expect: etag })).rejects.toThrow(ConflictError);
      expect((await readBranch(repository, 'd', 'x'))!.version).toBe(two);
    });

    test('that is protected moves by a merge only, stays protected, and is not deleted', async () => {
      const made = await moveBranch(repository, 'd', 'main', { expect: 'absent', version: one });
      const kept = await protectBranch(repository, 'd', 'main', 'merge');
      expect(kept).toEqual({ ...made, protect: 'merge', etag: kept.etag });
      expect(await protectBranch(repository, 'd', 'main', 'merge')).toEqual(kept);
      // Also for one who read it before.
      for (const expected of [kept, kept.etag, made.etag]) {
        const moving = moveBranch(repository, 'd', 'main', { expect: expected, version: two });
        await expect(moving).rejects.toThrow(ConflictError);
        await expect(moving).rejects.toThrow('larder branch unprotect d@main');
      }
      await expect(moveBranch(repository, 'd', 'main', { expect: made, version: two })).rejects.toThrow('someone else');
      await expect(deleteBranch(repository, 'd', 'main')).rejects.toThrow('larder branch unprotect d@main');
      await expect(deleteDataset(repository, 'd')).rejects.toThrow('--force');
      const merged = await moveBranch(repository, 'd', 'main', { expect: kept, version: two, via: 'merge' });
      expect(merged).toMatchObject({ version: two, protect: 'merge' });
      expect(await readBranch(repository, 'd', 'main')).toEqual(merged);
      expect(await listBranches(repository, 'd')).toEqual([merged]);
      const free = await protectBranch(repository, 'd', 'main', undefined);
      expect(free).not.toHaveProperty('protect');
      await moveBranch(repository, 'd', 'main', { expect: free, version: one });
      await protectBranch(repository, 'd', 'main', 'merge');
      await deleteDataset(repository, 'd', { force: true });
      expect(await readBranch(repository, 'd', 'main')).toBeUndefined();
      await expect(protectBranch(repository, 'd', 'main', 'merge')).rejects.toThrow(NotFoundError);
    });

    test('whose object is damaged says so', async () => {
      await moveBranch(repository, 'd', 'main', { expect: 'absent', version: one });
      for (const text of [
        '',
        '{}\n',
        '{"format":1}\n',
        `{"format":2,"moved":"2025-01-01T00:00:00.000Z","version":"${one}"}\n`,
        `{"format":1,"moved":"2025-01-01T00:00:00.000Z","protect":"all","version":"${one}"}\n`,
      ]) {
        await overwrite(repository, 'datasets/d/branches/main', Buffer.from(text));
        const reading = readBranch(repository, 'd', 'main');
        await expect(reading).rejects.toThrow(CorruptError);
        await expect(reading).rejects.toThrow("branch 'main' of dataset 'd' is damaged");
      }
    });
  });

  describe('a tag', () => {
    test('stays where it is unless it is moved on purpose', async () => {
      await writeTag(repository, 'd', 'v1', { version: one });
      await writeTag(repository, 'd', 'v1', { version: one });
      await expect(writeTag(repository, 'd', 'v1', { version: two })).rejects.toThrow('names version');
      expect((await readTag(repository, 'd', 'v1'))!.version).toBe(one);
      await writeTag(repository, 'd', 'v1', { version: two, force: true });
      expect((await readTag(repository, 'd', 'v1'))!.version).toBe(two);
      await deleteTag(repository, 'd', 'v1');
      expect(await readTag(repository, 'd', 'v1')).toBeUndefined();
    });

    test('and a branch never share a name', async () => {
      await writeTag(repository, 'd', 'x', { version: one });
      await expect(moveBranch(repository, 'd', 'x', { expect: 'absent', version: one })).rejects.toThrow(
        "has a tag 'x'",
      );
      await moveBranch(repository, 'd', 'y', { expect: 'absent', version: one });
      await expect(writeTag(repository, 'd', 'y', { version: one })).rejects.toThrow("has a branch 'y'");
    });

    test('that is not there cannot be deleted, and the nearest is told', async () => {
      await writeTag(repository, 'd', 'v1.0', { version: one });
      const deleting = deleteTag(repository, 'd', 'v1.o');
      await expect(deleting).rejects.toThrow(NotFoundError);
      await expect(deleting).rejects.toThrow("did you mean 'v1.0'?");
    });
  });

  describe('a name', () => {
    beforeEach(async () => {
      await moveBranch(repository, 'imagenet/train', 'main', { expect: 'absent', version: one });
      await moveBranch(repository, 'imagenet/train', 'fix/labels', { expect: 'absent', version: two });
      await writeTag(repository, 'imagenet/train', 'v1.0', { version: one });
    });

    test.each([
      ['imagenet/train', 'main', 'branch', 'one'],
      ['imagenet/train@latest', 'main', 'branch', 'one'],
      ['imagenet/train@main', 'main', 'branch', 'one'],
      ['imagenet/train@fix/labels', 'fix/labels', 'branch', 'two'],
      ['imagenet/train@v1.0', 'v1.0', 'tag', 'one'],
    ])('%s means a version', async (name, ref, kind, which) => {
      const meant = which === 'one' ? one : two;
      expect(await resolveName(repository, name)).toEqual({ dataset: 'imagenet/train', ref, kind, version: meant });
    });

    test("with the first digits of a version's id means that version", async () => {
      for (const length of [4, 12, 64]) {
        const found = await resolveName(repository, `imagenet/train@${two.slice(0, length)}`);
        expect(found).toEqual({ dataset: 'imagenet/train', ref: two, kind: 'version', version: two });
      }
      const absent = `imagenet/train@${'0'.repeat(64)}`;
      await expect(resolveName(repository, absent)).rejects.toThrow(NotFoundError);
    });

    test('means no version that has nothing to do with the dataset', async () => {
      const other = await version('other');
      await moveBranch(repository, 'other', 'main', { expect: 'absent', version: other });
      const resolving = resolveName(repository, `imagenet/train@${other}`);
      await expect(resolving).rejects.toThrow(NotFoundError);
      await expect(resolving).rejects.toThrow("nothing in common with dataset 'imagenet/train'");
      expect((await resolveName(repository, `other@${other}`)).version).toBe(other);
      // One that was made on top, and got no name; and one of which nobody can tell.
      for (const parents of [[two], [await version('between', [one])], [sha256('collected')]]) {
        const id = await version('unnamed', parents);
        expect((await resolveName(repository, `imagenet/train@${id}`)).version).toBe(id);
      }
    });

    test('with digits that several versions begin with lists them', async () => {
      const digits = new Map<string, Digest>();
      for (let i = 0; ; i++) {
        const id = await version(`v${i}`, [one]);
        const other = digits.get(id.slice(0, 4));
        digits.set(id.slice(0, 4), id);
        if (other === undefined) continue;
        const resolving = resolveName(repository, `imagenet/train@${id.slice(0, 4)}`);
        await expect(resolving).rejects.toThrow(InvalidError);
        await expect(resolving).rejects.toThrow(other.slice(0, 12));
        break;
      }
    });

    test.each([
      ['imagent/train', "no dataset 'imagent/train'", "did you mean 'imagenet/train'?"],
      ['mnist', "no dataset 'mnist'", "'larder list' shows what there is"],
      ['imagenet/train@mian', "no branch, tag or version 'mian'", "did you mean 'imagenet/train@main'?"],
      ['imagenet/train@v1', "no branch, tag or version 'v1'", 'it has fix/labels, main, v1.0'],
    ])('%s that means nothing says what is near', async (name, what, help) => {
      const resolving = resolveName(repository, name);
      await expect(resolving).rejects.toThrow(NotFoundError);
      await expect(resolving).rejects.toThrow(what);
      await expect(resolving).rejects.toThrow(help);
    });

    test('is taken apart at its @', () => {
      expect(parseDatasetName('a/b@x/y')).toEqual({ dataset: 'a/b', ref: 'x/y' });
      expect(parseDatasetName('a')).toEqual({ dataset: 'a', ref: undefined });
      for (const bad of ['', '@x', 'a@', '../x']) expect(() => parseDatasetName(bad)).toThrow(InvalidError);
    });
  });

  test('datasets, branches and tags are listed in order, and no longer when they are deleted', async () => {
    expect(await listDatasets(repository)).toEqual([]);
    for (const dataset of ['b', 'a/x', 'a', 'größe', 'a b'])
      await moveBranch(repository, dataset, 'main', { expect: 'absent', version: one });
    await writeTag(repository, 'only-tags', 'v1', { version: one });
    await moveBranch(repository, 'a', 'dev', { expect: 'absent', version: two });
    await writeTag(repository, 'a', 'v2', { version: two });
    await writeTag(repository, 'a', 'v1', { version: one });
    expect(await listDatasets(repository)).toEqual(['a', 'a b', 'a/x', 'b', 'größe', 'only-tags']);
    expect((await listBranches(repository, 'a')).map(({ name }) => name)).toEqual(['dev', 'main']);
    expect((await listTags(repository, 'a')).map(({ name, version }) => [name, version])).toEqual([
      ['v1', one],
      ['v2', two],
    ]);
    await deleteDataset(repository, 'a');
    expect(await listDatasets(repository)).toEqual(['a b', 'a/x', 'b', 'größe', 'only-tags']);
    await expect(deleteDataset(repository, 'a')).rejects.toThrow(NotFoundError);
  });
});

async function version(message: string, parents: readonly Digest[] = []): Promise<Digest> {
  const fields = { root: sha256(message), parents, author: 'a', message, meta: {}, entries: 1, bytes: 1 };
  return (await writeVersion(repository, fields)).id;
}
