import { createCipheriv, createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { createWorld } from './support.ts';

const { directory, larder, ok, documents, shell } = createWorld();
const source = join(directory, 'source');
const odd = Buffer.from('odd-\xff\n', 'latin1');
/** Not one chunk to be inlined, and of bytes that do not shrink. */
const large = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16)).update(Buffer.alloc(300_000));
let first = '';
let second = '';

beforeAll(() => {
  mkdirSync(join(source, 'images', 'empty'), { recursive: true });
  writeFileSync(join(source, 'labels.csv'), 'file,class\n');
  writeFileSync(join(source, 'images', 'a.png'), large);
  writeFileSync(join(source, 'images', 'b.png'), 'b');
  writeFileSync(Buffer.concat([Buffer.from(`${source}/`), odd]), 'odd');
  symlinkSync('images/a.png', join(source, 'first'));
  chmodSync(join(source, 'labels.csv'), 0o640);
  utimesSync(join(source, 'labels.csv'), 1_700_000_000, 1_700_000_000.25);
  ok('repository', 'init');
});

describe('import', () => {
  it('prints the id of a new version, and what it took', () => {
    const out = ok('import', 'source', 'emoji', '-m', 'first\n\nwith a body', '--tag', 'v1');
    const [id, summary, ...rest] = out.split('\n');
    expect(id).toMatch(/^[0-9a-f]{64}$/);
    expect(summary).toMatch(/^emoji@main/);
    expect(rest).toEqual(['']);
    first = id!;
  });

  it('makes no version where nothing changed', () => {
    const [result] = documents('import', source, 'emoji', '-m', 'again');
    expect(result).toMatchObject({ dataset: 'emoji', branch: 'main', version: first, unchanged: true });
    expect(documents('log', 'emoji')).toHaveLength(1);
  });

  it('makes a child of the last version where something did', () => {
    writeFileSync(join(source, 'labels.csv'), 'file,class\na.png,a\n');
    rmSync(join(source, 'images', 'b.png'));
    writeFileSync(join(source, 'images', 'c.png'), 'c');
    chmodSync(join(source, 'images', 'a.png'), 0o600);
    const [result] = documents('import', source, 'emoji@main', '-m', 'second', '--author', 'Grace Hopper');
    expect(result).toMatchObject({ dataset: 'emoji', branch: 'main', unchanged: false });
    second = result!.version as string;
    expect(documents('show', 'emoji')).toMatchObject([
      { version: second, parents: [first], author: 'Grace Hopper', message: 'second', names: ['main'] },
    ]);
  });

  it('goes to the branch that it is told to', () => {
    const [result] = documents('import', source, 'emoji@other', '--checksum');
    expect(result).toMatchObject({ branch: 'other' });
    expect(documents('branch', 'list', 'emoji').map(({ branch }) => branch)).toEqual(['main', 'other']);
    ok('branch', 'delete', 'emoji', 'other');
  });

  it('names a directory that is not there, or is none', () => {
    expect(larder('import', 'sauce', 'emoji')).toMatchObject({
      status: 3,
      stderr: "larder: there is nothing at 'sauce': give a directory, a tar file, '-' or s3://BUCKET/PREFIX\n",
    });
    expect(larder('import', 'source/labels.csv', 'emoji').status).toBe(2);
  });

  it('refuses a bad name, and a tag that is taken, before it reads anything', () => {
    expect(larder('import', 'source', 'a:b').status).toBe(2);
    expect(larder('import', 'source', 'emoji@').status).toBe(2);
    mkdirSync(join(directory, 'changed'));
    expect(larder('import', 'changed', 'emoji', '--tag', 'v1')).toMatchObject({ status: 4, stdout: '' });
    expect(larder('import', 'changed', 'emoji', '--tag', 'main')).toMatchObject({ status: 4, stdout: '' });
    expect(documents('log', 'emoji')).toHaveLength(2);
  });
});

describe('log', () => {
  it('is newest first, like that of git', () => {
    const text = ok('log', 'emoji');
    expect(text).toMatch(
      new RegExp(
        `^version ${second} \\(main\\)\nAuthor:  Grace Hopper\nDate:    .* \\+0000\nSize:    .*\n\n    second\n\nversion ${first} \\(tag: v1\\)\n`,
      ),
    );
    expect(text).toContain('\n    first\n\n    with a body\n');
  });

  it('is as long as asked for, and one line a version if asked for', () => {
    expect(ok('log', 'emoji', '--oneline')).toMatch(
      new RegExp(`^${second.slice(0, 12)} \\(main\\) .* second\n${first.slice(0, 12)} \\(tag: v1\\) .* first\n$`),
    );
    expect(documents('log', 'emoji', '-n', '1')).toMatchObject([{ version: second, names: ['main'] }]);
    expect(documents('log', 'emoji@v1')).toMatchObject([{ version: first, parents: [] }]);
    expect(larder('log', 'emoji', '-n', '0').status).toBe(2);
  });
});

describe('show', () => {
  it('finds a version by branch, tag, the word latest, and the start of its id', () => {
    for (const name of ['emoji', 'emoji@main', 'emoji@latest', `emoji@${second.slice(0, 12)}`]) {
      expect(documents('show', name)).toMatchObject([{ version: second }]);
    }
    expect(documents('show', 'emoji@v1')).toMatchObject([{ dataset: 'emoji', version: first, names: ['tag: v1'] }]);
    expect(ok('show', 'emoji@v1')).toContain(`version  ${first}`);
  });

  it('suggests the nearest dataset and the nearest name', () => {
    expect(larder('show', 'emojo')).toMatchObject({
      status: 3,
      stderr: expect.stringContaining("did you mean 'emoji'?"),
    });
    expect(larder('show', 'emoji@v2')).toMatchObject({
      status: 3,
      stderr: expect.stringContaining("did you mean 'emoji@v1'?"),
    });
  });
});

describe('list', () => {
  it('is a table of datasets, or of the names of one', () => {
    const [titles, row] = ok('list').split('\n');
    expect(titles).toMatch(/^DATASET +HEAD +BRANCHES +TAGS +ENTRIES +SIZE +WHEN/);
    expect(row).toMatch(new RegExp(`^emoji +${second.slice(0, 12)} +1 +1 +8 +293 KiB`));
    expect(documents('list')).toMatchObject([
      { dataset: 'emoji', branch: 'main', version: second, branches: 1, tags: 1 },
    ]);
    expect(documents('list', 'emoji')).toMatchObject([
      { dataset: 'emoji', branch: 'main', version: second },
      { dataset: 'emoji', tag: 'v1', version: first },
    ]);
  });
});

describe('files', () => {
  it('lists entries in path order, as ls does', () => {
    const lines = ok('files', 'emoji@v1').trimEnd().split('\n');
    expect(lines.map((line) => line.split(' ').at(-1))).toEqual([
      './',
      'images/a.png',
      'images/',
      'images/a.png',
      'images/b.png',
      'images/empty/',
      'labels.csv',
      'odd-\\xff\\x0a',
    ]);
    expect(lines[6]).toMatch(/^-rw-r----- +\d+ +\d+ +11 2023-11-14 22:13 labels\.csv$/);
  });

  it('gives every field to a program, and the bytes of a name that is no UTF-8', () => {
    const entries = documents('files', 'emoji@v1');
    expect(entries.at(-1)).toMatchObject({ path: 'odd-\\xff\\x0a', pathBase64: odd.toString('base64'), type: 'file' });
    expect(entries[6]).toMatchObject({
      path: 'labels.csv',
      mode: '0640',
      size: 11,
      mtime: '2023-11-14T22:13:20.250000000Z',
      contentId: createHash('sha256').update('file,class\n').digest('hex'),
    });
    expect(entries[3]).toMatchObject({
      contentId: createHash('sha256').update(large).digest('hex'),
      size: large.length,
    });
    expect(entries[1]).toMatchObject({ path: 'first', type: 'symlink', target: 'images/a.png' });
  });

  it('lists one directory, however it is written', () => {
    for (const prefix of ['images', './images/', '/images']) {
      expect(documents('files', 'emoji', '--prefix', prefix).map(({ path }) => path)).toEqual([
        'images',
        'images/a.png',
        'images/c.png',
        'images/empty',
      ]);
    }
    expect(larder('files', 'emoji', '--prefix', 'imagse').status).toBe(3);
  });

  it('ends quietly when its reader has seen enough', () => {
    const { status, stdout, stderr } = shell('set -o pipefail; larder files emoji | head -n 1');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^d.* \.\/\n$/);
  });
});

describe('cat', () => {
  it('prints the bytes of files', () => {
    expect(ok('cat', 'emoji@v1', 'labels.csv', 'images/b.png')).toBe('file,class\nb');
    ok('cat', 'emoji', 'labels.csv');
    expect(shell('larder cat emoji images/a.png | sha256sum').stdout).toBe(
      `${createHash('sha256').update(large).digest('hex')}  -\n`,
    );
  });

  it('takes a name that is no UTF-8 as it is typed', () => {
    expect(shell(`larder cat emoji $'odd-\\xff\\n'`)).toMatchObject({ status: 0, stdout: 'odd' });
  });

  it('gives base64 to a program', () => {
    const [part] = documents('cat', 'emoji', 'labels.csv');
    expect(part).toMatchObject({ path: 'labels.csv', offset: 0 });
    expect(Buffer.from(part!.dataBase64 as string, 'base64').toString()).toBe('file,class\na.png,a\n');
  });

  it('refuses what is not there, and what is no file', () => {
    expect(larder('cat', 'emoji', 'nothing').status).toBe(3);
    expect(larder('cat', 'emoji', 'images').status).toBe(2);
    expect(larder('cat', 'emoji', 'first')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('images/a.png'),
    });
    expect(larder('cat', 'emoji', '../x').status).toBe(2);
  });
});

describe('diff', () => {
  it('marks each path that differs, and adds up', () => {
    const lines = ok('diff', 'emoji@v1', '@main').trimEnd().split('\n');
    expect(lines).toEqual([
      'm images/a.png  mode 0644 -> 0600',
      'D images/b.png  1 B',
      'A images/c.png  1 B',
      'M labels.csv  11 B -> 19 B',
      '1 added, 1 modified, 1 removed, 1 with other metadata only; 8 B more',
    ]);
  });

  it('compares with the parent where one name is given', () => {
    expect(ok('diff', 'emoji')).toBe(ok('diff', 'emoji@v1', 'emoji@main'));
    expect(larder('diff', 'emoji@v1')).toMatchObject({ status: 2, stderr: expect.stringContaining('first version') });
  });

  it('leaves out directories of which only the time differs, unless told not to', () => {
    const line = /^m images {2}time .*Z -> .*Z$/m;
    expect(ok('diff', 'emoji')).not.toMatch(line);
    expect(ok('diff', 'emoji', '--all')).toMatch(line);
  });

  it('gives both sides to a program', () => {
    const all = documents('diff', 'emoji@v1', '@main');
    expect(all.at(-1)).toMatchObject({ summary: { from: first, to: second, added: 1, removed: 1, modified: 1 } });
    expect(all.find(({ path }) => path === 'labels.csv')).toMatchObject({
      change: 'modified',
      before: { size: 11 },
      after: { size: 19 },
    });
    expect(all.find(({ path }) => path === 'images/c.png')).not.toHaveProperty('before');
  });

  it('finds nothing between a version and itself', () => {
    expect(ok('diff', 'emoji', 'emoji')).toBe('0 added, 0 modified, 0 removed; the same size\n');
    expect(documents('diff', 'emoji', 'emoji', '--summary')).toHaveLength(1);
  });
});

describe('history', () => {
  it('lists the versions that changed a path', () => {
    const lines = documents('history', 'emoji', 'labels.csv');
    expect(lines).toMatchObject([
      { version: second, change: 'modified', entry: { size: 19 } },
      { version: first, change: 'added', entry: { size: 11 } },
    ]);
    expect(documents('history', 'emoji', 'images/b.png')).toMatchObject([
      { version: second, change: 'removed' },
      { version: first, change: 'added' },
    ]);
    expect(ok('history', 'emoji', 'labels.csv')).toMatch(new RegExp(`^${second.slice(0, 12)} .*modified.* second\n`));
    expect(larder('history', 'emoji', 'never').status).toBe(3);
  });
});

describe('checkout and commit', () => {
  const copy = join(directory, 'copy');

  it('make a plain copy that is the same in every respect, and bring it back', () => {
    expect(ok('checkout', 'emoji', copy)).toMatch(/^emoji@[0-9a-f]{12} /);
    const listing = (dir: string) =>
      shell(`cd '${dir}' && find . -printf '%P %y %m %s %T@ %l\\0' | sort -z | base64`).stdout;
    expect(listing(copy)).toBe(listing(source));
    expect(shell(`diff -r --no-dereference '${source}' '${copy}'`)).toMatchObject({ status: 0, stdout: '' });
    expect(documents('commit', copy, 'emoji')).toMatchObject([{ version: second, unchanged: true }]);
    writeFileSync(join(copy, 'new.txt'), 'new');
    const [committed] = documents('commit', copy, 'emoji@main', '-m', 'third', '-t', 'v3');
    expect(committed).toMatchObject({ dataset: 'emoji', branch: 'main', unchanged: false });
    expect(documents('diff', 'emoji').map(({ path }) => path)).toContain('new.txt');
    expect(documents('show', 'emoji@v3')).toMatchObject([{ version: committed!.version, parents: [second] }]);
  });

  it('leave a directory that has something in it alone', () => {
    expect(larder('checkout', 'emoji', source).status).toBe(4);
    expect(readFileSync(join(source, 'labels.csv'), 'utf8')).toContain('a.png');
  });

  it('commit only to a branch that is there', () => {
    expect(larder('commit', copy, 'emojo')).toMatchObject({ status: 3, stderr: expect.stringContaining("'emoji'") });
    expect(larder('commit', copy, 'emoji@man')).toMatchObject({ status: 3, stderr: expect.stringContaining("main'") });
  });
});

describe('names', () => {
  it('tags stay, unless moved on purpose', () => {
    ok('tag', 'create', `emoji@${first}`, 'stable');
    expect(ok('tag', 'create', 'emoji@v1', 'stable')).toContain(first.slice(0, 12));
    expect(larder('tag', 'create', 'emoji', 'stable')).toMatchObject({
      status: 4,
      stderr: expect.stringContaining('--force'),
    });
    expect(larder('tag', 'move', 'emoji', 'stable').status).toBe(2);
    expect(documents('tag', 'move', `emoji@${second}`, 'stable', '--force')).toMatchObject([
      { dataset: 'emoji', tag: 'stable', version: second, before: first },
    ]);
    expect(larder('tag', 'move', 'emoji', 'stabel', '--force')).toMatchObject({
      status: 3,
      stderr: expect.stringContaining("did you mean 'stable'?"),
    });
    expect(documents('tag', 'list', 'emoji')).toMatchObject([{ tag: 'stable' }, { tag: 'v1' }, { tag: 'v3' }]);
    expect(documents('tag', 'delete', 'emoji', 'stable')).toEqual([{ dataset: 'emoji', tag: 'stable', deleted: true }]);
    expect(larder('tag', 'delete', 'emoji', 'stable').status).toBe(3);
    expect(larder('tag', 'create', 'emoji', 'latest').status).toBe(2);
    expect(larder('tag', 'list', 'emojo')).toMatchObject({ status: 3, stderr: expect.stringContaining("'emoji'") });
    expect(larder('tag', 'list', 'emoji@v1').status).toBe(2);
  });

  it('branches are made, listed and removed; main only with force', () => {
    expect(documents('branch', 'create', 'emoji@v1', 'side')).toEqual([
      { dataset: 'emoji', branch: 'side', version: first },
    ]);
    expect(larder('branch', 'create', 'emoji', 'side').status).toBe(4);
    expect(larder('branch', 'create', 'emoji', 'v1').status).toBe(4);
    expect(ok('branch', 'list', 'emoji')).toMatch(new RegExp(`^BRANCH .*\nmain .*\nside +${first.slice(0, 12)} `));
    ok('branch', 'delete', 'emoji', 'side');
    expect(larder('branch', 'delete', 'emoji', 'main').status).toBe(2);
    expect(documents('branch', 'list', 'emoji')).toHaveLength(1);
  });
});

describe('verify', () => {
  it('finds a repository that is whole in order', () => {
    expect(documents('verify').at(-1)).toMatchObject({ summary: { damaged: 0 } });
    expect(documents('verify', '--deep').at(-1)).toMatchObject({ summary: { damaged: 0 } });
  });

  it('names what is damaged and what that affects, and ends with 5', () => {
    const pack = shell('find repository/packs -type f -size +100k | head -n 1').stdout.trim();
    const bytes = readFileSync(join(directory, pack));
    const flipped = Buffer.from(bytes);
    flipped[flipped.length - 100]! ^= 1;
    chmodSync(join(directory, pack), 0o644);
    writeFileSync(join(directory, pack), flipped);
    const { status, stdout, stderr } = larder('verify', '--deep');
    expect(status).toBe(5);
    expect(stdout).toContain(pack.split('/').at(-1));
    expect(stdout).toContain('images/a.png');
    expect(stderr).toContain('damage');
    expect(larder('cat', 'emoji', 'images/a.png').status).toBe(5);
    writeFileSync(join(directory, pack), bytes);
    expect(larder('verify', '--deep').status).toBe(0);
  });
});

describe('delete', () => {
  it('says what would go, and removes it when told to', () => {
    expect(larder('delete', 'emoji')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('1 branch and 2 tags'),
    });
    expect(larder('delete', 'emoji@v1', '--yes').status).toBe(2);
    expect(larder('delete', 'emojo', '--yes').status).toBe(3);
    expect(documents('delete', 'emoji', '--yes')).toEqual([
      { dataset: 'emoji', deleted: true, branches: ['main'], tags: ['v1', 'v3'], volumes: 0, snapshots: 0 },
    ]);
    expect(documents('list')).toEqual([]);
    expect(larder('show', 'emoji').status).toBe(3);
  });
});
