import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  ftruncateSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { bytesOf, textOf } from '../byte-string.ts';
import type { Digest } from '../digest.ts';
import type { Entry } from '../entry.ts';
import { CorruptError, InvalidError } from '../errors.ts';
import { importDirectory } from '../import.ts';
import { findEntry, readEntries } from '../manifest.ts';
import { readFile } from '../read-file.ts';
import { readBranch } from '../refs.ts';
import { initRepository, type Repository } from '../repository.ts';
import { importArchive } from './import-archive.ts';
import { member, tarOf } from './tar/test-tar.ts';

let folder: string;
let repository: Repository;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'larder-tar-'));
  process.env.LARDER_STATE = join(folder, 'state');
  repository = await initRepository(join(folder, 'repository'));
});

afterEach(async () => {
  await repository.bucket.close();
  delete process.env.LARDER_STATE;
  rmSync(folder, { recursive: true, force: true });
});

describe('importing a tar archive', () => {
  it('is the same tree as importing the directory that it was made of', async () => {
    const source = makeTree();
    const { version } = await importDirectory({ ...common(), source, branch: 'directory' });
    for (const options of [['--format=pax'], ['--format=pax', '--sparse']]) {
      const archive = tar(source, ['--sort=name', '--xattrs', ...options]);
      const found = await run(createReadStream(archive));
      expect(await difference(version.root, found.version.root), options.join(' ')).toEqual([]);
      if (options.includes('--sparse')) expect(found.version.root).toBe(version.root);
    }
  });

  it("keeps all but the fractions of times in GNU's and POSIX's first formats", async () => {
    const source = makeTree({ wholeSeconds: true, names: 'short' });
    const { version } = await importDirectory({ ...common(), source, branch: 'directory' });
    for (const options of [['--format=gnu'], ['--format=gnu', '--sparse'], ['--format=oldgnu'], ['--format=ustar']]) {
      const found = await run(createReadStream(tar(source, ['--sort=name', ...options])));
      const differing = await difference(version.root, found.version.root);
      // These formats have no attributes.
      expect(differing, options.join(' ')).toEqual(['attributes']);
    }
  });

  it('reads old sparse maps of each kind', async () => {
    const source = join(folder, 'sparse');
    mkdirSync(source);
    const fd = openSync(join(source, 'file'), 'w');
    // More runs than a header has room for.
    for (let i = 0; i < 60; i++) writeSync(fd, randomBytes(4096), 0, 4096, i * 200_704);
    ftruncateSync(fd, 60 * 200_704);
    closeSync(fd);
    utimesSync(join(source, 'file'), 1_700_000_000, 1_700_000_000);
    utimesSync(source, 1_700_000_000, 1_700_000_000);
    const { version } = await importDirectory({ ...common(), source, branch: 'directory' });
    for (const options of [
      ['--format=gnu'],
      ['--format=pax', '--sparse-version=0.0'],
      ['--format=pax', '--sparse-version=0.1'],
      ['--format=pax', '--sparse-version=1.0'],
    ]) {
      const found = await run(createReadStream(tar(source, ['--sparse', ...options])));
      expect(found.version.root, options.join(' ')).toBe(version.root);
    }
  });

  it('takes archives that are compressed, in one piece or several', async () => {
    const archive = tarOf([member('a', 'one'), member('b', 'two'.repeat(10_000))]);
    const { version } = await run([archive]);
    for (const compressed of [
      gzipSync(archive),
      zstdCompressSync(archive),
      Buffer.concat([gzipSync(archive.subarray(0, 700)), gzipSync(archive.subarray(700))]),
      Buffer.concat([zstdCompressSync(archive.subarray(0, 700)), zstdCompressSync(archive.subarray(700))]),
    ]) {
      expect((await run(pieces(compressed, 1000))).version.root).toBe(version.root);
    }
    await expect(run([Buffer.from('fd377a585a0000', 'hex')])).rejects.toThrow(/xz -dc/);
  });

  it('sorts members that come in any order, and makes the directories that none tells of', async () => {
    const { version, seen } = await run([
      tarOf([member('b/c/x', '1'), member('a-b', '2'), member('a/y', '3'), member('./b/', '')]),
    ]);
    expect(seen).toBe(4);
    expect((await entries(version.root)).map(({ type, path }) => `${type} ${textOf(path)}`)).toEqual([
      'directory ',
      'directory a',
      'file a/y',
      'file a-b',
      'directory b',
      'directory b/c',
      'file b/c/x',
    ]);
  });

  it('counts the last of members with one name', async () => {
    const { version } = await run([
      tarOf([member('a', 'first'), member('d/', ''), member('d/x', '1'), member('a', 'second'), member('d/x', '22')]),
    ]);
    expect(await textAt(version.root, 'a')).toBe('second');
    expect(await textAt(version.root, 'd/x')).toBe('22');
    expect(version.entries).toBe(4);
  });

  it('makes hard links of the file that had the name when the link came', async () => {
    const { version } = await run([
      tarOf([
        member('x', 'old'),
        member('y', '', { type: '1', link: 'x' }),
        member('x', 'new'),
        member('z', '', { type: '1', link: 'x' }),
        member('again', '', { type: '1', link: 'y' }),
      ]),
    ]);
    expect(await textAt(version.root, 'x')).toBe('new');
    expect(await textAt(version.root, 'y')).toBe('old');
    expect(await textAt(version.root, 'z')).toBe('new');
    expect(await textAt(version.root, 'again')).toBe('old');
    const links = new Map(
      (await entries(version.root)).map((entry) => [textOf(entry.path), (entry as { link?: string }).link]),
    );
    expect(links.get('x')).toBe(links.get('z'));
    expect(links.get('y')).toBe(links.get('again'));
    expect(links.get('x')).not.toBe(links.get('y'));
  });

  it('leaves out devices and FIFOs, and says how many', async () => {
    const warnings: string[] = [];
    const devices = ['3', '4', '6'].map((type) => member(`dev${type}`, '', { type }));
    const { version } = await run([tarOf([...devices, member('a', '1')])], (text) => warnings.push(text));
    expect(version.entries).toBe(2);
    expect(warnings).toEqual(['left out, as a version cannot hold them: 2 devices, 1 FIFO']);
  });

  it.each([
    ['/etc/passwd', {}, "begins with '/'"],
    ['a/../../b', {}, "'..'"],
    ['b', { type: '1', link: '/etc/passwd' }, "begins with '/'"],
    ['b', { type: '1', link: 'nowhere' }, 'no file that came before'],
    ['a'.repeat(99).padEnd(99), {}, undefined],
  ])('refuses what leads out of the tree: %s %o', async (path, options, fault) => {
    const archive = tarOf([member('fine', 'x'), member(path, 'x', options)]);
    if (fault === undefined) {
      await expect(run([archive])).resolves.toMatchObject({ outcome: 'created' });
      return;
    }
    const failed = run([archive]);
    await expect(failed).rejects.toThrow(InvalidError);
    await expect(failed).rejects.toThrow(fault);
    expect(await readBranch(repository, 'data', 'tar')).toBeUndefined();
  });

  it('refuses a member below a symbolic link', async () => {
    const archive = tarOf([member('a', '', { type: '2', link: '/etc' }), member('a/passwd', 'x')]);
    await expect(run([archive])).rejects.toThrow(/'a\/passwd' is in 'a', which is a symlink/);
  });

  it('publishes nothing of an archive that is cut short anywhere, compressed or not', async () => {
    const archive = tarOf([member('a', 'x'.repeat(3000)), member('b/', ''), member('c', 'y'.repeat(700))]);
    const zipped = gzipSync(archive);
    const zstd = zstdCompressSync(archive);
    const end = archive.length - 1024;
    for (const length of [512, 1000, 3584, 4096, 4608, 5000, end - 1, end])
      await expect(run([archive.subarray(0, length)]), `${length} bytes`).rejects.toThrow(CorruptError);
    for (const compressed of [zipped, zstd])
      for (const length of [7, 30, compressed.length - 1])
        await expect(run([compressed.subarray(0, length)]), `${length} bytes`).rejects.toThrow(CorruptError);
    expect(await readBranch(repository, 'data', 'tar')).toBeUndefined();
  });

  it('says of what is no archive that it is none', async () => {
    for (const bytes of ['', 'hello', 'hello '.repeat(200)]) {
      const failed = run([Buffer.from(bytes)]);
      await expect(failed).rejects.toThrow(InvalidError);
      await expect(failed).rejects.toThrow(/the archive is no tar archive/);
    }
    const damaged = tarOf([member('a', 'x'), member('b', 'y')]);
    damaged[1024 + 20] = 0x7a;
    await expect(run([damaged])).rejects.toThrow(/header at byte 1024 is none, its checksum does not match/);
  });

  it('stores large files in the chunks that any import cuts, and only the difference the next time', async () => {
    const bytes = randomBytes(20_000_000);
    const source = join(folder, 'large');
    mkdirSync(source);
    writeFileSync(join(source, 'large'), bytes);
    const { version } = await importDirectory({ ...common(), source, branch: 'directory' });
    const found = await run(pieces(readFileSync(tar(source, ['--format=pax'])), 100_000));
    expect(found.version.root).toBe(version.root);
    expect(found.stored.packs).toBe(0);
    expect((await run(createReadStream(tar(source, ['--format=pax'])))).outcome).toBe('unchanged');
  });
});

function common() {
  return { repository, dataset: 'data', message: '', author: 'a test' };
}

async function run(archive: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, onWarning?: (text: string) => void) {
  async function* stream() {
    yield* archive;
  }
  return await importArchive({ ...common(), branch: 'tar', archive: stream(), name: 'the archive', onWarning });
}

function* pieces(bytes: Buffer, size: number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

function tar(source: string, options: readonly string[]): string {
  const file = join(folder, 'archive.tar');
  execFileSync('tar', ['-C', source, ...options, '-cf', file, '.']);
  return file;
}

/** Files, links, holes, attributes, odd names. */
function makeTree({
  wholeSeconds = false,
  names = 'all',
}: {
  wholeSeconds?: boolean;
  names?: 'all' | 'short';
} = {}): string {
  const source = join(folder, `tree-${names}`);
  mkdirSync(join(source, 'a/deep/er'), { recursive: true, mode: 0o750 });
  mkdirSync(join(source, 'a-empty'));
  writeFileSync(join(source, 'a/tiny'), 'tiny');
  writeFileSync(join(source, 'a/nothing'), '');
  writeFileSync(join(source, 'a/deep/er/some'), randomBytes(5000), { mode: 0o640 });
  writeFileSync(join(source, 'large'), randomBytes(6_000_000));
  linkSync(join(source, 'a/tiny'), join(source, 'b-linked'));
  linkSync(join(source, 'large'), join(source, 'z-linked'));
  symlinkSync('a/tiny', join(source, 'symlink'));
  symlinkSync('/somewhere/else', join(source, 'absolute'));
  writeFileSync(Buffer.from([...Buffer.from(`${source}/f`), 0xe9, 0xff]), 'no UTF-8');
  writeFileSync(join(source, 'Füße 日本'), 'UTF-8');
  if (names === 'all') {
    const long = Array.from({ length: 9 }, (_, i) => `${i}`.repeat(30)).join('/');
    mkdirSync(join(source, long), { recursive: true });
    writeFileSync(join(source, long, 'x'.repeat(200)), 'long');
    symlinkSync('t'.repeat(300), join(source, 'long-link'));
  }
  const fd = openSync(join(source, 'holes'), 'w');
  writeSync(fd, randomBytes(8192), 0, 8192, 0);
  writeSync(fd, randomBytes(8192), 0, 8192, 1_048_576);
  ftruncateSync(fd, 3_145_728);
  closeSync(fd);
  execFileSync('setfattr', ['-n', 'user.label', '-v', '0x00ff3d0a', join(source, 'a/tiny')]);
  execFileSync('setfattr', ['-n', 'user.other', '-v', 'text', join(source, 'a')]);
  if (wholeSeconds) execFileSync('find', [source, '-exec', 'touch', '-h', '-d', '@1700000000', '{}', '+']);
  return source;
}

async function entries(root: Digest): Promise<Entry[]> {
  const found: Entry[] = [];
  for await (const batch of readEntries(repository, root)) found.push(...batch);
  return found;
}

async function textAt(root: Digest, path: string): Promise<string> {
  const entry = (await findEntry(repository, root, bytesOf(path)))!;
  let text = '';
  for await (const block of readFile(repository, entry as Extract<Entry, { type: 'file' }>, { root })) text += block;
  return text;
}

/** What differs between two trees, in words. A file without its holes, or in which only they differ, has the same bytes. */
async function difference(a: Digest, b: Digest): Promise<string[]> {
  const all = new Map((await entries(b)).map((entry) => [entry.path, entry]));
  const found = new Set<string>();
  for (const entry of await entries(a)) {
    const other = all.get(entry.path);
    all.delete(entry.path);
    const plain = (value: Entry | undefined) => JSON.stringify({ ...value, xattrs: undefined, content: undefined });
    if (plain(entry) !== plain(other)) found.add(`${plain(entry)} ${plain(other)}`);
    else if (JSON.stringify(entry.xattrs) !== JSON.stringify(other?.xattrs)) found.add('attributes');
    else if (entry.type === 'file' && other?.type === 'file' && textOf(entry.path) !== 'holes')
      if (JSON.stringify(entry.content) !== JSON.stringify(other.content))
        found.add(`content of ${textOf(entry.path)}`);
  }
  for (const path of all.keys()) found.add(`more: ${textOf(path)}`);
  return [...found];
}
