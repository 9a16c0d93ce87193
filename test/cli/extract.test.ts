import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { createWorld } from './support.ts';

/*
 * docs/extract.py reads a repository by docs/formats.md alone: it stands for whoever leaves Larder, and tells whether that page is
 * complete and true.
 */

const { directory, ok } = createWorld();
const script = join(import.meta.dirname, '..', '..', 'docs', 'extract.py');
const repository = join(directory, 'repository');
const hasPython = spawnSync('python3', ['--version']).status === 0;

function extract(...args: readonly string[]) {
  return spawnSync('python3', [script, ...args], { encoding: 'utf8', cwd: directory });
}

/** All that a tree has, as find tells it: modes, owners, times to the nanosecond, links, sizes. */
function listing(tree: string): string[] {
  const about = '%p %m %U %G %T@ %y %l';
  const find = ['.', '-type', 'd', '-printf', `${about}\\n`, '-o', '-printf', `${about} %n %s\\n`];
  const { stdout } = spawnSync('find', find, { cwd: tree, encoding: 'latin1' });
  return stdout.split('\n').sort();
}

describe.skipIf(!hasPython)('taking a dataset out without Larder', () => {
  const source = join(directory, 'source');

  beforeAll(() => {
    mkdirSync(join(source, 'deep', 'empty'), { recursive: true });
    for (let i = 0; i < 2_000; i += 1)
      writeFileSync(join(source, 'deep', `file-${i}`), `${'text '.repeat(i % 300)}${i}`);
    writeFileSync(join(source, 'large'), randomBytes(9_000_000));
    truncateSync(join(source, 'large'), 20_000_000);
    writeFileSync(Buffer.concat([Buffer.from(`${source}/`), Buffer.from([0xff, 0xfe, 0x62])]), 'odd');
    linkSync(join(source, 'large'), join(source, 'deep', 'same'));
    symlinkSync('../large', join(source, 'deep', 'link'));
    spawnSync('setfattr', ['-n', 'user.label', '-v', 'seven', join(source, 'deep', 'file-7')]);
    spawnSync('touch', ['-d', '1950-01-02 03:04:05.678901234 UTC', join(source, 'deep', 'file-9')]);
    ok('repository', 'init');
    ok('import', source, 'deep sea/fish', '--tag', 'v1');
  });

  it('lists what there is', () => {
    const { stdout } = extract(repository);
    expect(stdout).toMatch(/^deep sea\/fish@main [0-9a-f]{64}\ndeep sea\/fish@v1 [0-9a-f]{64}\n$/);
  });

  it('gives every byte and everything that a file has', () => {
    const { status, stderr } = extract(repository, 'deep sea/fish@v1', 'out');
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const out = join(directory, 'out');
    const compared = spawnSync('diff', ['--recursive', '--no-dereference', source, out], { encoding: 'latin1' });
    expect(compared.stdout).toBe('');
    expect(listing(out)).toEqual(listing(source));
    const attribute = (tree: string) => spawnSync('getfattr', ['-d', 'deep/file-7'], { cwd: tree }).stdout?.toString();
    expect(attribute(out)).toBe(attribute(source));
  });

  it.each([
    ['a raw chunk', 'large'],
    ['a compressed chunk', 'deep'],
  ])('names %s that is damaged', (_, only) => {
    // A dataset of its own, so that every chunk of its packs is of the one kind.
    const damaged = join(directory, `damaged ${only}`);
    ok('--repository', damaged, 'repository', 'init');
    const tree = join(directory, `tree ${only}`);
    mkdirSync(tree);
    spawnSync('cp', ['-a', join(source, only), tree]);
    ok('--repository', damaged, 'import', tree, 'fish');
    const packs = join(damaged, 'packs');
    for (const folder of readdirSync(packs)) {
      for (const pack of readdirSync(join(packs, folder))) {
        const bytes = readFileSync(join(packs, folder, pack));
        bytes[bytes.length - 1]! ^= 1;
        writeFileSync(join(packs, folder, pack), bytes);
      }
    }
    const { status, stderr } = extract(damaged, 'fish', `out of ${only}`);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^chunk [0-9a-f]{64} in pack [0-9a-f]{64} is damaged\n$/);
  });
});
