import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { createWorld } from './support.ts';

const { directory, larder, ok, documents } = createWorld();
const copies = { main: join(directory, 'main'), side: join(directory, 'side') };
let first = '';
let ours = '';
let theirs = '';
let merged = '';

beforeAll(() => {
  const source = join(directory, 'source');
  mkdirSync(join(source, 'images'), { recursive: true });
  for (const name of ['a', 'b', 'c']) writeFileSync(join(source, 'images', `${name}.png`), `image ${name} `.repeat(50));
  writeFileSync(join(source, 'labels.csv'), 'a,b\n');
  ok('repository', 'init');
  first = documents('import', source, 'emoji', '-m', 'first')[0]!.version as string;
  ok('branch', 'create', 'emoji', 'side');
  for (const [branch, copy] of Object.entries(copies)) ok('checkout', `emoji@${branch}`, copy);
  writeFileSync(join(copies.main, 'labels.csv'), 'a,ours\n');
  writeFileSync(join(copies.main, 'mine.txt'), 'mine');
  ours = documents('commit', copies.main, 'emoji', '-m', 'ours')[0]!.version as string;
  writeFileSync(join(copies.side, 'labels.csv'), 'a,theirs!\n');
  renameSync(join(copies.side, 'images', 'a.png'), join(copies.side, 'images', 'z.png'));
  rmSync(join(copies.side, 'images', 'b.png'));
  theirs = documents('commit', copies.side, 'emoji@side', '-m', 'theirs')[0]!.version as string;
});

describe('diff', () => {
  it('shows a file that was renamed as one line', () => {
    const lines = ok('diff', 'emoji@side').trimEnd().split('\n');
    expect(lines).toEqual([
      'D images/b.png  400 B',
      'R images/a.png -> images/z.png',
      'M labels.csv  4 B -> 10 B',
      '0 added, 1 modified, 1 removed, 1 renamed; 394 B less',
    ]);
    const [, renamed] = documents('diff', 'emoji@side');
    expect(renamed).toMatchObject({
      change: 'renamed',
      from: 'images/a.png',
      path: 'images/z.png',
      after: { size: 400 },
    });
  });

  it('shows it as two where that is asked for', () => {
    const changes = documents('diff', 'emoji@side', '--no-renames').map(({ change, path }) => `${change} ${path}`);
    expect(changes.slice(0, -1)).toEqual([
      'removed images/a.png',
      'removed images/b.png',
      'added images/z.png',
      'modified labels.csv',
    ]);
  });
});

describe('merge', () => {
  it('lists conflicts with both sides, changes nothing, and says how to choose', () => {
    const { status, stdout, stderr } = larder('merge', 'emoji', '@side');
    expect(status).toBe(4);
    expect(stdout).toMatch(
      /^C labels\.csv {2}changed on both sides\n {4}ours: 7 B, [0-9a-f]{12} {3}theirs: 10 B, [0-9a-f]{12}\n$/,
    );
    expect(stderr).toContain("'labels.csv'; choose with --take PATH=ours or --take PATH=theirs");
    const json = larder('--json', 'merge', 'emoji', 'emoji@side', '--dry-run');
    expect(json.status).toBe(4);
    expect(JSON.parse(json.stdout)).toMatchObject({
      path: 'labels.csv',
      conflict: 'both-modified',
      taken: null,
      base: { size: 4 },
      ours: { size: 7 },
      theirs: { size: 10 },
    });
    expect(JSON.parse(json.stderr)).toMatchObject({
      error: { kind: 'conflict', facts: { conflicts: 1, base: first } },
    });
    expect(documents('show', 'emoji')).toMatchObject([{ version: ours }]);
  });

  it('is one version of both parents once it is said whose to take', () => {
    const options = ['--take', './labels.csv=theirs', '--meta', 'reviewed=yes', '--author', 'Grace'];
    const [conflict, result] = documents('merge', 'emoji', '@side', ...options);
    expect(conflict).toMatchObject({ path: 'labels.csv', taken: 'theirs' });
    expect(result).toMatchObject({ outcome: 'merged', conflicts: 1, ours, theirs, bases: [first] });
    merged = result!.version as string;
    expect(documents('show', 'emoji')).toMatchObject([
      {
        version: merged,
        parents: [ours, theirs],
        message: 'Merge emoji@side',
        meta: { reviewed: 'yes' },
        author: 'Grace',
      },
    ]);
    expect(ok('cat', 'emoji', 'labels.csv', 'mine.txt')).toBe('a,theirs!\nmine');
    expect(documents('files', 'emoji', '-p', 'images').map(({ path }) => path)).toEqual([
      'images',
      'images/c.png',
      'images/z.png',
    ]);
  });

  it('has nothing to do twice, and only moves a branch that has nothing of its own', () => {
    expect(ok('merge', 'emoji', '@side')).toBe(`${merged}\nemoji@main: has all of emoji@side already\n`);
    expect(documents('merge', 'emoji@side', '@main')).toMatchObject([{ outcome: 'fast-forward', version: merged }]);
  });

  it('refuses what cannot be meant', () => {
    expect(larder('merge', 'emoji', '@sied')).toMatchObject({ status: 3, stderr: expect.stringContaining("side'?") });
    expect(larder('merge', 'emoji@sied', '@main').status).toBe(3);
    expect(larder('merge', 'emoji', '@side', '--ours', '--theirs').status).toBe(2);
    expect(larder('merge', 'emoji', '@side', '--take', 'labels.csv').status).toBe(2);
    expect(larder('merge', 'emoji', '@side', '--meta', 'reviewed').status).toBe(2);
  });
});

describe('revert', () => {
  it('undoes what a version changed', () => {
    expect(larder('revert', 'emoji', 'main')).toMatchObject({ status: 2, stderr: expect.stringContaining('--parent') });
    expect(larder('revert', 'emoji', first)).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('first version'),
    });
    const [result] = documents('revert', 'emoji', `@${merged.slice(0, 12)}`, '--parent', '1');
    expect(result).toMatchObject({ outcome: 'reverted', reverted: merged, towards: ours });
    expect(documents('diff', `emoji@${ours}`, 'emoji').slice(0, -1)).toEqual([]);
    expect(ok('revert', 'emoji', merged, '--parent', '1')).toContain('is left to undo');
  });
});

describe('a protected branch', () => {
  it('moves by a merge only, and stays', () => {
    expect(documents('branch', 'protect', 'emoji')).toMatchObject([{ branch: 'main', protected: true }]);
    expect(ok('branch', 'list', 'emoji')).toMatch(/^main \(protected\) /m);
    writeFileSync(join(copies.main, 'more.txt'), 'more');
    for (const args of [
      ['commit', copies.main, 'emoji'],
      ['branch', 'delete', 'emoji', 'main', '--force'],
      ['delete', 'emoji', '--yes'],
    ])
      expect(larder(...args)).toMatchObject({
        status: 4,
        stderr: expect.stringContaining('larder branch unprotect emoji@main'),
      });
    ok('branch', 'create', 'emoji', 'work');
    ok('commit', copies.main, 'emoji@work');
    expect(documents('merge', 'emoji', '@work', '--no-ff')).toMatchObject([{ outcome: 'merged' }]);
    expect(documents('branch', 'unprotect', 'emoji@main')).toMatchObject([{ protected: false }]);
    ok('branch', 'delete', 'emoji', 'work');
    expect(larder('branch', 'protect', 'emoji@mian')).toMatchObject({
      status: 3,
      stderr: expect.stringContaining("'main'?"),
    });
  });
});

describe('metadata and lineage', () => {
  it('tell how good a model is, and which data trained it', () => {
    const model = join(directory, 'model');
    mkdirSync(model);
    writeFileSync(join(model, 'weights'), 'one');
    ok('import', model, 'models', '-m', 'empty');
    for (const [weights, accuracy] of [
      ['two', '0.91'],
      ['three', '0.95'],
    ] as const) {
      writeFileSync(join(model, 'weights'), weights);
      ok(
        'commit',
        model,
        'models',
        '-m',
        weights,
        '--meta',
        `accuracy=${accuracy}`,
        '--meta',
        'code=3f2a',
        '--from',
        'emoji@side',
      );
    }
    const found = documents('log', 'models', '--meta', 'accuracy>0.92', '--meta', 'code');
    expect(found).toMatchObject([
      { message: 'three', meta: { accuracy: '0.95' }, from: [{ dataset: 'emoji', version: merged }] },
    ]);
    expect(documents('log', 'models', '--meta', 'code!=3f2a')).toMatchObject([{ message: 'empty' }]);
    expect(ok('log', 'models', '-n', '1')).toContain(
      `From:    emoji@${merged.slice(0, 12)}\nMeta:    accuracy=0.95, code=3f2a\n`,
    );
    expect(larder('log', 'models', '--meta', 'accuracy>high').status).toBe(2);
    expect(ok('show', 'models')).toMatch(new RegExp(`^from +emoji@${merged}$[^]*^accuracy +0\\.95$`, 'm'));

    // Where nothing changed, there is no version to tell it.
    const again = larder('commit', model, 'models', '--meta', 'accuracy=0.99');
    expect(again).toMatchObject({
      status: 0,
      stderr: expect.stringContaining('metadata and what it was made from are not kept'),
    });

    // A correction of the model comes from the same data.
    writeFileSync(join(model, 'weights'), 'four');
    ok('commit', model, 'models', '-m', 'corrected');
    const [root, origin] = ok('show', 'models', '--lineage').split('\n');
    expect(root).toMatch(
      /^models@[0-9a-f]{12} .* \(main\) corrected \(from what [0-9a-f]{12} before it was made from\)$/,
    );
    expect(origin).toMatch(new RegExp(`^└─ emoji@${merged.slice(0, 12)} .* \\(side\\) Merge emoji@side$`));
    expect(documents('show', 'models', '--lineage')).toMatchObject([
      { lineage: { dataset: 'models', from: [{ dataset: 'emoji', version: merged, missing: false, from: [] }] } },
    ]);
  });

  it('show a version that is gone as such', () => {
    rmSync(join(directory, 'repository', 'versions', merged.slice(0, 2), merged));
    expect(ok('show', 'models', '--lineage')).toContain(`└─ emoji@${merged.slice(0, 12)}: not in this repository\n`);
    const { stdout, stderr } = larder('log', 'emoji@side');
    expect(stdout).toBe('');
    expect(stderr).toContain(merged);
  });
});

describe('delete', () => {
  it('tells which volumes still use the dataset', () => {
    const volumes = join(directory, 'repository', 'volumes');
    mkdirSync(volumes, { recursive: true });
    const record = { dataset: 'models', format: 1, id: 'vol-1', kind: 'pinned', name: 'pvc-1', version: first };
    writeFileSync(join(volumes, `vol-${'0'.repeat(32)}`), `${JSON.stringify(record)}\n`);
    expect(larder('delete', 'models')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('1 branch and 0 tags; 1 volume uses versions of it, which stay'),
    });
    expect(documents('delete', 'models', '--yes')).toMatchObject([{ deleted: true, volumes: 1, snapshots: 0 }]);
  });
});
