import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { collect } from '../test/support/collect.ts';
import { describeRepositories } from '../test/support/repositories.ts';
import { bytesOf } from './byte-string.ts';
import { sha256 } from './digest.ts';
import type { FileEntry } from './entry.ts';
import { ConflictError, InvalidError, NotFoundError } from './errors.ts';
import { noise } from './import/test-tree.ts';
import { importDirectory } from './import.ts';
import { findEntry, readEntries } from './manifest.ts';
import { type Conflict, type MergeOptions, mergeVersions } from './merge.ts';
import { readFile } from './read-file.ts';
import { moveBranch, protectBranch, readBranch } from './refs.ts';
import { initRepository, type Repository } from './repository.ts';
import { type RevertOptions, revertVersion } from './revert.ts';
import { verifyRepository } from './verify.ts';
import { readVersion, type Version } from './version.ts';

let top: string;
let source: string;
let repository: Repository;
let made = 0;

describeRepositories('merging', (make, kind) => {
  beforeAll(() => {
    top = fs.mkdtempSync(join(tmpdir(), 'larder-merge-test-'));
    process.env.LARDER_STATE = join(top, 'state');
  });

  beforeEach(async () => {
    source = join(top, String(made++));
    fs.mkdirSync(source);
    repository = await initRepository(await make());
    return () => repository.bucket.close();
  });

  afterAll(() => {
    delete process.env.LARDER_STATE;
    execFileSync('rm', ['-rf', top]);
  });

  describe('a merge', () => {
    it('has what both sides changed, down to every byte, on a machine that knows of none', async () => {
      await begin();
      write('ours/new', noise(3000, 10));
      write('both/ours', noise(400, 11));
      remove('gone-by-ours');
      const ours = await run('main');
      reset();
      write('theirs/new', noise(200_000, 12));
      write('theirs/large', noise(5 << 20, 13));
      write('both/theirs', noise(500, 14));
      remove('gone-by-theirs');
      const theirs = await run('side');
      process.env.LARDER_STATE = join(top, `state-${made}`);
      const result = await merge();
      process.env.LARDER_STATE = join(top, 'state');

      expect(result).toMatchObject({ outcome: 'merged', conflicts: 0, ours: ours.id, theirs: theirs.id });
      expect(result.stored).toMatchObject({ chunks: 0, packs: 0 });
      const version = result.version!;
      expect(version).toMatchObject({
        parents: [ours.id, theirs.id],
        author: 'Ada',
        message: 'merged',
        meta: { a: '1' },
      });
      expect(await readBranch(repository, 'birds', 'main')).toMatchObject({ version: version.id });
      expect(await paths(version)).toEqual(
        ['', 'both', 'both/old', 'both/ours', 'both/theirs', 'ours', 'ours/new', 'small']
          .concat(['theirs', 'theirs/large', 'theirs/new'])
          .sort(),
      );
      for (const [path, bytes] of [
        ['theirs/large', noise(5 << 20, 13)],
        ['both/theirs', noise(500, 14)],
        ['both/ours', noise(400, 11)],
        ['both/old', noise(600, 3)],
      ] as const)
        expect(sha256(await read(version, path)), path).toBe(sha256(bytes));
      expect(await collect(verifyRepository(repository, { deep: true }))).toEqual([]);
    });

    it('is of conflicts not made, until it is said whose to take', async () => {
      await begin();
      write('both/old', 'ours');
      remove('small');
      const ours = await run('main');
      reset();
      write('both/old', 'theirs');
      write('small', 'changed');
      await run('side');
      const found: Conflict[] = [];
      const failing = merge({ onConflict: (conflict) => void found.push(conflict) });
      await expect(failing).rejects.toThrow(ConflictError);
      await expect(failing).rejects.toThrow("'both/old', 'small'; choose with --take PATH=ours");
      expect(found).toMatchObject([
        { path: 'both/old', kind: 'both-modified', taken: undefined, ours: { size: 4 }, theirs: { size: 6 } },
        { path: 'small', kind: 'deleted-by-ours', ours: undefined, theirs: { size: 7 } },
      ]);
      expect((await readBranch(repository, 'birds', 'main'))!.version).toBe(ours.id);
      await expect(merge({ prefer: 'ours', dryRun: true })).resolves.toMatchObject({
        version: undefined,
        conflicts: 2,
      });
      expect((await readBranch(repository, 'birds', 'main'))!.version).toBe(ours.id);

      const { version } = await merge({ prefer: 'ours', take: new Map([[bytesOf('both'), 'theirs']]) });
      expect((await read(version!, 'both/old')).toString()).toBe('theirs');
      expect(await paths(version!)).not.toContain('small');
    });

    it('that keeps all of ours is a version all the same, so that it is not asked for again', async () => {
      await begin();
      write('small', 'ours');
      const ours = await run('main');
      reset();
      write('small', 'theirs');
      await run('side');
      const { version, outcome } = await merge({ prefer: 'ours' });
      expect(outcome).toBe('merged');
      expect(version!.root).toBe(ours.root);
      expect(await merge()).toMatchObject({ outcome: 'up-to-date', version: { id: version!.id } });
    });

    it('only moves the branch where that has nothing of its own, unless told otherwise', async () => {
      const first = await begin();
      write('new', 'new');
      const theirs = await run('side');
      expect(await merge({ dryRun: true })).toMatchObject({ outcome: 'fast-forward' });
      expect((await readBranch(repository, 'birds', 'main'))!.version).toBe(first.id);
      expect(await merge()).toMatchObject({ outcome: 'fast-forward', version: { id: theirs.id } });
      expect((await readBranch(repository, 'birds', 'main'))!.version).toBe(theirs.id);
      expect(await merge()).toMatchObject({ outcome: 'up-to-date' });
      write('newer', 'newer');
      const next = await run('side');
      const { version } = await merge({ fastForward: false });
      expect(version).toMatchObject({ parents: [theirs.id, next.id], root: next.root });
    });

    it('moves a protected branch, which nothing else does', async () => {
      await begin();
      await protectBranch(repository, 'birds', 'main', 'merge');
      write('new', 'new');
      await expect(run('main')).rejects.toThrow('larder branch unprotect birds@main');
      await run('side');
      await merge({ fastForward: false });
      expect(await readBranch(repository, 'birds', 'main')).toMatchObject({ protect: 'merge' });
      const { version } = await readBranch(repository, 'birds', 'main').then((ref) => ref!);
      await expect(revert({ version, parent: 1 })).rejects.toThrow('moves only by a merge');
    });

    it('loses nothing where the branch moved meanwhile', async () => {
      const first = await begin();
      write('small', 'ours');
      const ours = await run('main');
      reset();
      write('small', 'theirs');
      await run('side');
      const failing = merge({
        prefer: 'theirs',
        onConflict: async () => {
          const ref = await readBranch(repository, 'birds', 'main');
          expect(ref!.version).toBe(ours.id);
          await moveBranch(repository, 'birds', 'main', { expect: ref!, version: first.id });
        },
      });
      await expect(failing).rejects.toThrow('run the same command again');
      expect((await readBranch(repository, 'birds', 'main'))!.version).toBe(first.id);
    });

    it('brings in what another dataset has', async () => {
      await begin();
      reset();
      for (const path of ['both/old', 'gone-by-ours', 'gone-by-theirs', 'small']) remove(path);
      write('other', 'other');
      const other = await run('main', 'other');
      await expect(merge({ theirs: other.id })).rejects.toThrow(InvalidError);
      await expect(merge({ theirs: other.id })).rejects.toThrow('--unrelated');
      const { version } = await merge({ theirs: other.id, unrelated: true });
      expect(await paths(version!)).toEqual(
        ['', 'both', 'both/old', 'gone-by-ours', 'gone-by-theirs', 'other', 'small'].sort(),
      );
    });

    it('of a branch that is not there says so', async () => {
      await begin();
      await expect(merge({ branch: 'mian' })).rejects.toThrow(NotFoundError);
    });
  });

  describe('a version that is reverted', () => {
    it('leaves what came after it', async () => {
      const first = await begin();
      write('both/old', 'bad');
      remove('small');
      write('bad', 'bad');
      const bad = await run('main');
      write('good', 'good');
      const good = await run('main');
      expect(await revert({ version: bad.id, dryRun: true })).toMatchObject({ outcome: 'reverted', changes: 3 });
      const { version, towards } = await revert({ version: bad.id });
      expect(towards).toBe(first.id);
      expect(version).toMatchObject({
        parents: [good.id],
        message: `Revert "imported"\n\nThis reverts version ${bad.id}.`,
      });
      expect(await paths(version!)).toEqual(
        ['', 'both', 'both/old', 'gone-by-ours', 'gone-by-theirs', 'good', 'small'].sort(),
      );
      expect(sha256(await read(version!, 'both/old'))).toBe(sha256(noise(600, 3)));
      expect(await collect(verifyRepository(repository, { deep: kind === 'directory' }))).toEqual([]);
      expect(await revert({ version: bad.id })).toMatchObject({ outcome: 'unchanged', version: { id: version!.id } });
    });

    it('is in conflict with what changed again since', async () => {
      await begin();
      write('small', 'bad');
      const bad = await run('main');
      write('small', 'better');
      const head = await run('main');
      await expect(revert({ version: bad.id })).rejects.toThrow(ConflictError);
      expect(await revert({ version: bad.id, prefer: 'ours' })).toMatchObject({ outcome: 'unchanged', conflicts: 1 });
      const { version } = await revert({ version: bad.id, prefer: 'theirs' });
      expect(version!.parents).toEqual([head.id]);
      expect((await read(version!, 'small')).toString()).toBe('small');
    });

    it('goes back to the parent that is asked for, where it is a merge', async () => {
      const first = await begin();
      write('ours', 'ours');
      const ours = await run('main');
      reset();
      write('theirs', 'theirs');
      const theirs = await run('side');
      const { version: merged } = await merge();
      const version = merged!.id;
      await expect(revert({ version })).rejects.toThrow('--parent');
      await expect(revert({ version, parent: 3 })).rejects.toThrow('no parent 3');
      await expect(revert({ version: first.id })).rejects.toThrow('first version');
      expect((await revert({ version, parent: 2 })).version!.root).toBe(theirs.root);
      expect(await readVersion(repository, ours.id)).toMatchObject({ root: ours.root });
    });
  });
});

/** A first version on both branches. */
async function begin(): Promise<Version> {
  write('both/old', noise(600, 3));
  write('gone-by-ours', 'gone');
  write('gone-by-theirs', 'gone');
  write('small', 'small');
  const first = await run('main');
  await moveBranch(repository, 'birds', 'side', { expect: 'absent', version: first.id });
  execFileSync('cp', ['-a', source, `${source}.first`]);
  return first;
}

/** The source as it was in the first version. */
function reset(): void {
  execFileSync('rm', ['-rf', source]);
  execFileSync('cp', ['-a', `${source}.first`, source]);
}

async function run(branch: string, dataset = 'birds'): Promise<Version> {
  const options = { repository, source, dataset, branch, message: 'imported', author: 'Ada', checksum: true };
  return (await importDirectory(options)).version;
}

async function merge(options: Partial<MergeOptions> = {}) {
  const theirs = options.theirs ?? (await readBranch(repository, 'birds', 'side'))!.version;
  const rest = { author: 'Ada', message: 'merged', meta: { a: '1' } };
  return await mergeVersions({ repository, dataset: 'birds', branch: 'main', ...rest, ...options, theirs });
}

async function revert(options: Partial<RevertOptions> & Pick<RevertOptions, 'version'>) {
  return await revertVersion({ repository, dataset: 'birds', branch: 'main', author: 'Ada', ...options });
}

async function paths({ root }: Version): Promise<string[]> {
  return (await collect(readEntries(repository, root)))
    .flat()
    .map(({ path }) => path as string)
    .sort();
}

async function read({ root }: Version, path: string): Promise<Buffer> {
  const entry = await findEntry(repository, root, bytesOf(path));
  return Buffer.concat(await collect(readFile(repository, entry as FileEntry, { root })));
}

function write(path: string, content: string | Uint8Array): void {
  fs.mkdirSync(dirname(join(source, path)), { recursive: true });
  fs.writeFileSync(join(source, path), content);
}

function remove(path: string): void {
  fs.rmSync(join(source, path), { recursive: true });
}
