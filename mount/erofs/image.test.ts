import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ByteString, bytesOf, textOf } from '../../dataset/byte-string.ts';
import { sha256 } from '../../dataset/digest.ts';
import type { Content, DirectoryEntry, Entry, FileEntry, SymlinkEntry, Xattr } from '../../dataset/entry.ts';
import { createRandom } from '../../test/support/random.ts';
import { OWNER_MARK } from '../owner-mark.ts';
import { type ImageOptions, writeImage } from './image.ts';
import { dumpImage, type ImageNode, readImage } from './read-image.ts';
import { sampleTree } from './testing/sample-tree.ts';

const id = sha256('something');
const nothing: Content = { kind: 'inline', bytes: Buffer.alloc(0) };
const root: DirectoryEntry = directory('');
const hasTools = spawnSync('fsck.erofs', ['-V']).error === undefined;
if (!hasTools) console.warn('skipped, what needs erofs-utils: fsck.erofs is not installed');

let folder: string;
let file: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'larder-erofs-'));
  file = path.join(folder, 'image');
});
afterAll(() => rm(folder, { recursive: true }));

describe('an image', () => {
  it('has this text form, and these bytes', async () => {
    const label = xattr('user.label', 'cat');
    const entries = [
      { ...root, mtimeSeconds: 0 },
      fileWith('a', { size: 5, content: { kind: 'inline', bytes: Buffer.from('hello') } }),
      directory('b', { mode: 0o1777, xattrs: [label] }),
      fileWith('b/empty', { size: 0, content: { kind: 'inline', bytes: Buffer.alloc(0) }, uid: 70_000 }),
      fileWith('b/large', { size: 5 * 2 ** 40, mtimeSeconds: -1, mtimeNanos: 999_999_999, xattrs: [label] }),
      directory('b/none'),
      fileWith('b/once', { xattrs: [label, xattr('user.long', 'x'.repeat(600))] }),
      fileWith('c', { mode: 0o4755, link: bytesOf('c') }),
      { ...fileWith('d', { mode: 0o4755, link: bytesOf('c') }) },
      symlink('e', 'b/large'),
    ];
    await write(entries, { volumeName: 'sample', uuid: Buffer.alloc(16, 0xab) });
    const long = 'x'.repeat(600);
    const redirect = `trusted.overlay.metacopy=""* trusted.overlay.redirect="/${id.slice(0, 2)}/${id}"`;
    expect(dumpImage(file).split('\n')).toEqual([
      'erofs blocks=9 inodes=9 root=38 built=1700000000+000000005 name=sample uuid=abababababababababababababababab prefixes=trusted.overlay.redirect',
      '/ nid=38 extended,plain directory 0755 1000:1000 size=92 mtime=0+000000005 links=3',
      '/a nid=40 compact,inline file 0644 1000:1000 size=5 mtime=1700000000+000000005 links=1 data="hello"',
      '/b nid=56 compact,inline directory 1777 1000:1000 size=93 mtime=1700000000+000000005 links=3 user.label="cat"',
      '/b/empty nid=42 extended,plain file 0644 70000:1000 size=0 mtime=1700000000+000000005 links=1',
      `/b/large nid=44 extended,chunked file 0644 1000:1000 size=5497558138880 mtime=-1+999999999 links=1 ${redirect} user.label="cat"*`,
      '/b/none nid=49 compact,inline directory 0755 1000:1000 size=27 mtime=1700000000+000000005 links=2',
      `/b/once nid=51 compact,chunked file 0644 1000:1000 size=1000 mtime=1700000000+000000005 links=1 ${redirect} user.label="cat"* user.long="${long}"*`,
      `/c nid=61 extended,chunked file 4755 1000:1000 size=1000 mtime=1700000000+000000005 links=2 ${redirect}`,
      `/d nid=61 extended,chunked file 4755 1000:1000 size=1000 mtime=1700000000+000000005 links=2 ${redirect}`,
      '/e nid=66 compact,inline symlink 0777 1000:1000 size=7 mtime=1700000000+000000005 links=1 data="b/large"',
      '',
    ]);
    expect(sha256(readFileSync(file))).toBe('f7003ac143aabc72f2f9dd753842f65aef488ee4873e74fb1d3d08fa2f5c7184');
  });

  it.each(Array.from({ length: 8 }, (_, seed) => seed))(
    'gives back every entry of the random tree %i',
    async (seed) => {
      const entries = sampleTree({ random: createRandom(seed), entries: 2500 });
      const summary = await write(entries, { xattrPrefixes: seed % 2 === 0 });
      expectSame(entries);
      expect(summary).toMatchObject({ entries: entries.length, bytes: statSync(file).size });
    },
  );

  it('has the same bytes however its entries arrive', async () => {
    const entries = sampleTree({ random: createRandom(100), entries: 4000 });
    await write(entries);
    const whole = readFileSync(file);
    await writeImage({ entries: batches(entries, 7), file });
    expect(readFileSync(file).equals(whole)).toBe(true);
    await writeImage({ entries: later(entries), file });
    expect(readFileSync(file).equals(whole)).toBe(true);
  });

  it('holds a directory of 100,000 entries', async () => {
    const entries: Entry[] = [root, directory('many')];
    for (let index = 0; index < 100_000; index += 1) {
      const name = `many/${String(index).padStart(6, '0')}-${'n'.repeat(index % 40)}`;
      entries.push(index % 1000 === 0 ? directory(name) : fileWith(name, {}));
    }
    entries.push(directory('none'));
    await write(entries);
    expectSame(entries);
  });

  it('is as deep as its paths', async () => {
    const entries: Entry[] = [root];
    for (let depth = 1; depth <= 1500; depth += 1) entries.push(directory(Array(depth).fill('d').join('/')));
    await write(entries);
    expectSame(entries);
  });

  it('keeps small directories small', async () => {
    const entries: Entry[] = [root];
    for (let index = 0; index < 1000; index += 1) {
      const name = `sample${String(index).padStart(4, '0')}`;
      entries.push(directory(name), fileWith(`${name}/image`, {}), fileWith(`${name}/label`, {}));
    }
    const { bytes } = await write(entries);
    expect(bytes / 1000).toBeLessThan(600);
  });

  it('counts the names of files linked across a million bytes of inodes', async () => {
    const entries: Entry[] = [root, directory('a'), directory('b')];
    const links = (at: string) =>
      Array.from({ length: 9000 }, (_, index) => {
        const name = String(index).padStart(5, '0');
        return fileWith(`${at}/${name}`, index % 3 === 0 ? {} : { link: bytesOf(`a/${name}`) });
      });
    entries.splice(2, 0, ...links('a'));
    entries.push(...links('b'));
    await write(entries);
    expectSame(entries);
  });

  it('keeps the 255 largest xattrs of a file beside it, and the others with it', async () => {
    const xattrs = Array.from({ length: 300 }, (_, index) =>
      xattr(`user.${String(index).padStart(3, '0')}`, 'v'.repeat(600 + index)),
    );
    const entries = [root, fileWith('f', { xattrs })];
    await write(entries);
    expectSame(entries);
    const shared = [...readImage(file)][1]!.xattrs.filter((attribute) => attribute.shared);
    expect(shared).toHaveLength(255);
  });

  it('marks what a view hides in 24 bytes an entry at most, and nothing where it hides nothing', async () => {
    const entries = [
      root,
      ...Array.from({ length: 10_000 }, (_, index) =>
        fileWith(`f${String(index).padStart(6, '0')}`, index % 2 === 0 ? {} : { size: 0, content: nothing }),
      ),
    ];
    const plain = await write(entries);
    const bytes = readFileSync(file);
    const viewed = await write(entries, { view: { uid: 1000, mountGroup: 2000 } });
    expect((viewed.bytes - plain.bytes) / 10_000).toBeLessThan(24);
    const isMarked = ({ gid, xattrs }: ImageNode) => gid === 2000 && xattrs.some(({ name }) => name === OWNER_MARK);
    expect([...readImage(file)].every(isMarked)).toBe(true);
    await write(entries, { view: {} });
    expect(readFileSync(file).equals(bytes)).toBe(true);
  });

  it('keeps a repeated xattr once', async () => {
    const one = (count: number) => [
      root,
      ...Array.from({ length: count }, (_, index) =>
        fileWith(`f${String(index).padStart(6, '0')}`, { xattrs: [xattr('user.licence', 'y'.repeat(400))] }),
      ),
    ];
    const few = await write(one(1000));
    const many = await write(one(11_000));
    expect((many.bytes - few.bytes) / 10_000).toBeLessThan(220);
  });
});

describe.skipIf(!hasTools)('erofs-utils', () => {
  it.each([1, 2, 3])('find no fault in the random tree %i', async (seed) => {
    const entries = sampleTree({ random: createRandom(1000 + seed), entries: 2500 });
    const { inodes, bytes } = await write(entries, { xattrPrefixes: false, volumeName: 'tools' });
    expect(fsck()).toMatch(/No errors found/);
    const shown = spawnSync('dump.erofs', ['-s', file], { encoding: 'utf8' }).stdout;
    expect(shown).toMatch(new RegExp(`inode count: +${inodes}\n`));
    expect(shown).toMatch(new RegExp(`blocks: +${bytes / 4096}\n`));
    expect(shown).toMatch(/features: +sb_csum mtime chunked_file *\n/);
  });

  it('find no fault in a tree with a view', async () => {
    const entries = sampleTree({ random: createRandom(2000), entries: 2500 });
    await write(entries, { xattrPrefixes: false, view: { uid: 1, gid: 70_000, mode: 0o750 } });
    expect(fsck()).toMatch(/No errors found/);
  });

  it('find a fault where there is one', async () => {
    const { bytes } = await write([root, fileWith('a')], { xattrPrefixes: false });
    const image = readFileSync(file);
    image.fill(0xff, bytes - 4096);
    writeFileSync(file, image);
    expect(fsck).toThrow(/fsck.erofs/);
  });

  it('show an inode as it was given', async () => {
    const entries = [root, directory('d'), fileWith('d/f', { size: 5 * 2 ** 32, mode: 0o640, uid: 70_000, gid: 7 })];
    await write(entries, { xattrPrefixes: false });
    const shown = spawnSync('dump.erofs', ['--path=/d/f', file], { encoding: 'utf8', env: { TZ: 'UTC' } }).stdout;
    expect(shown).toMatch(/Size: 21474836480\s.*regular file/);
    expect(shown).toMatch(/Uid: 70000\s+Gid: 7\s+Access: 0640/);
    expect(shown).toMatch(/Timestamp: 2023-11-14 22:13:20\.000000005/);
  });

  function fsck(): string {
    const checked = spawnSync('fsck.erofs', ['-d3', file], { encoding: 'utf8' });
    if (checked.status !== 0) throw new Error(`fsck.erofs: ${checked.stderr}`);
    return checked.stdout + checked.stderr;
  }
});

describe('a wrong tree', () => {
  const cases: [string, Entry[], RegExp][] = [
    ['is empty', [], /no entries/],
    ['does not begin with its root', [directory('a')], /first one must be the root directory \(''\), not 'a'/],
    ['has two roots', [root, directory('a'), root], /\(''\) comes twice/],
    ['is not sorted', [root, fileWith('b'), fileWith('a')], /'a' comes after 'b', but sorts before it/],
    ['comes back to a directory', [root, directory('a'), directory('b'), fileWith('a/x')], /'a\/x' comes after 'b'/],
    ['has a name twice', [root, directory('a'), fileWith('a/x'), fileWith('a/x')], /'a\/x' comes twice/],
    ['has a directory twice', [root, directory('a'), fileWith('a/x'), directory('a')], /'a' comes twice/],
    ['lacks a parent', [root, fileWith('a/x')], /'a\/x' comes without its parent directory/],
    ['lacks one in the middle', [root, directory('a'), fileWith('a/b/x')], /'a\/b\/x' comes without its parent/],
    [
      'has a file as a directory',
      [root, fileWith('a'), fileWith('a/x')],
      /'a\/x' is below 'a', which is not a directory/,
    ],
    ['has a dot', [root, directory('.')], /'\.' has the component '\.'/],
    ['has dots below', [root, directory('a'), fileWith('a/..')], /'a\/\.\.' has the component '\.\.'/],
    ['has an empty component', [root, directory('a'), fileWith('a/')], /'a\/' has an empty component/],
    ['begins at /', [root, fileWith('/a')], /'\/a' has an empty component/],
    ['has a NUL in a name', [root, fileWith('a\0b')], /a\\x00b: its name has a NUL/],
    ['has more than bytes in a name', [root, { ...fileWith('a'), path: 'a\u1234' as ByteString }], /not bytes/],
    ['has a long name', [root, fileWith('n'.repeat(256))], /its name has 256 bytes; Linux allows 255/],
    ['has a mode with a type', [root, fileWith('a', { mode: 0o100644 })], /a: its mode, owner, time or size/],
    ['has a negative owner', [root, fileWith('a', { uid: -1 })], /a: its mode, owner, time or size/],
    ['has a size that is none', [root, fileWith('a', { size: 1.5 })], /a: its mode, owner, time or size/],
    [
      'has less data than it says',
      [root, fileWith('a', { size: 3, content: { kind: 'inline', bytes: Buffer.from('ab') } })],
      /a: it is said to have 3 bytes, and has 2/,
    ],
    [
      'links different files',
      [root, fileWith('a', { link: bytesOf('a') }), fileWith('b', { link: bytesOf('a'), mode: 0o600 })],
      /b and a are hard links of one file, but differ/,
    ],
    ['links to nothing', [root, symlink('s', '')], /s: its target is not one of 1 to 4095 bytes/],
    ['links too far', [root, symlink('s', 'x'.repeat(4096))], /s: its target is not one of 1 to 4095 bytes/],
    [
      'has overlay attributes of its own',
      [root, fileWith('a', { xattrs: [xattr('trusted.overlay.redirect', '/etc/shadow')] })],
      /a: the extended attribute trusted.overlay.redirect cannot be in an image/,
    ],
    [
      'has a value over 65,535 bytes',
      [root, fileWith('a', { xattrs: [xattr('user.big', 'x'.repeat(65_536))] })],
      /a: the extended attribute user.big has 65536 bytes; an image holds 65535/,
    ],
    [
      'has more attributes than there is room for',
      [
        root,
        fileWith('a', { xattrs: Array.from({ length: 300 }, (_, i) => xattr(`user.${1000 + i}`, 'x'.repeat(9000))) }),
      ],
      /a: its extended attributes take \d+ bytes; an image holds 262148/,
    ],
    [
      'has an attribute twice',
      [root, fileWith('a', { xattrs: [xattr('user.a', '1'), xattr('user.a', '2')] })],
      /a: its extended attributes are not sorted/,
    ],
  ];
  it.each(cases)('that %s is refused, and what was there stays', async (_, entries, message) => {
    writeFileSync(file, 'before');
    await expect(write(entries)).rejects.toThrow(message);
    expect(readFileSync(file, 'utf8')).toBe('before');
    expect(readdirSync(folder)).toEqual(['image']);
  });
});

it('leaves nothing when it is aborted between two batches', async () => {
  await rm(file, { force: true });
  const abort = new AbortController();
  async function* entries() {
    yield [root, fileWith('a')];
    abort.abort(new Error('stop'));
    yield [fileWith('b')];
  }
  await expect(writeImage({ entries: entries(), file, signal: abort.signal })).rejects.toThrow('stop');
  expect(readdirSync(folder)).toEqual([]);
});

it.each([
  ['a UUID of 15 bytes', { uuid: Buffer.alloc(15) }, /UUID has 15 bytes; give 16/],
  ['a volume name of 16 characters', { volumeName: 'x'.repeat(16) }, /not up to 15 printable ASCII/],
  ['a volume name with a space', { volumeName: 'a b' }, /not up to 15 printable ASCII/],
])('refuses %s', async (_, options, message) => {
  await expect(write([root], options)).rejects.toThrow(message);
});

describe('a damaged image', () => {
  it('is told from a whole one', async () => {
    await write([root, directory('a'), fileWith('a/x')]);
    const whole = readFileSync(file);
    const damaged = (at: number) => {
      const bytes = Buffer.from(whole);
      bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
      writeFileSync(file, bytes);
      return () => [...readImage(file)];
    };
    expect(damaged(1024)).toThrow(/no EROFS image/);
    expect(damaged(2000)).toThrow(/checksum/);
    writeFileSync(file, whole.subarray(0, -4096));
    expect(() => [...readImage(file)]).toThrow(/should have|behind the image's end/);
  });
});

function write(entries: readonly Entry[], options: Partial<ImageOptions> = {}) {
  return writeImage({ entries: batches(entries, 256), file, ...options });
}

function* batches(entries: readonly Entry[], size: number): Iterable<readonly Entry[]> {
  for (let at = 0; at < entries.length; at += size) yield entries.slice(at, at + size);
}

async function* later(entries: readonly Entry[]): AsyncIterable<readonly Entry[]> {
  for (const batch of batches(entries, 1000)) {
    await new Promise((resolve) => setImmediate(resolve));
    yield batch;
  }
}

/** That the image says of every entry what the entry says. */
function expectSame(entries: readonly Entry[]): void {
  const nodes = [...readImage(file)];
  const links = new Map<ByteString, number>();
  for (const entry of entries) {
    if (entry.type === 'file' && entry.link !== undefined) links.set(entry.link, (links.get(entry.link) ?? 0) + 1);
  }
  expect(nodes.length).toBe(entries.length);
  for (const [index, entry] of entries.entries()) {
    const seen = seenAs(nodes[index]!);
    const given = givenAs(entry, links);
    if (JSON.stringify(seen) !== JSON.stringify(given)) expect(seen, textOf(entry.path)).toEqual(given);
  }
}

function seenAs(node: ImageNode) {
  const overlay = (name: string) => node.xattrs.find((xattr) => xattr.name === `trusted.overlay.${name}`)?.value;
  const { path, type, mode, uid, gid, mtimeSeconds, mtimeNanos } = node;
  return {
    base: [path, type, mode, uid, gid, mtimeSeconds, mtimeNanos],
    xattrs: node.xattrs.filter(({ name }) => name.startsWith('user.')).map(({ name, value }) => [name, hex(value)]),
    ...(type === 'directory' ? {} : { data: hex(node.data) }),
    ...(type === 'file' ? { size: node.size, links: node.links } : {}),
    metacopy: hex(overlay('metacopy')),
    redirect: overlay('redirect')?.toString('latin1'),
  };
}

function givenAs(entry: Entry, links: Map<ByteString, number>) {
  const { path, type, mode, uid, gid, mtimeSeconds, mtimeNanos, xattrs = [] } = entry;
  const data =
    type === 'symlink'
      ? Buffer.from(entry.target, 'latin1')
      : type === 'file' && entry.content.kind === 'inline'
        ? entry.content.bytes
        : undefined;
  const content = type === 'file' && entry.content.kind !== 'inline' ? entry.content.id : undefined;
  return {
    base: [path, type, mode, uid, gid, mtimeSeconds, mtimeNanos],
    xattrs: xattrs.map(({ name, value }) => [name, hex(value)]),
    ...(type === 'directory' ? {} : { data: hex(data) }),
    ...(type === 'file' ? { size: entry.size, links: entry.link === undefined ? 1 : links.get(entry.link) } : {}),
    metacopy: content === undefined ? undefined : '',
    redirect: content === undefined ? undefined : `/${content.slice(0, 2)}/${content}`,
  };
}

function hex(bytes: Buffer | undefined): string | undefined {
  return bytes?.toString('hex');
}

function directory(name: string, fields: Partial<DirectoryEntry> = {}): DirectoryEntry {
  return { type: 'directory', path: bytesOf(name), ...base(0o755), ...fields };
}

function fileWith(name: string, fields: Partial<FileEntry> = {}): FileEntry {
  return { type: 'file', path: bytesOf(name), ...base(0o644), size: 1000, content: { kind: 'chunk', id }, ...fields };
}

function symlink(name: string, target: string): SymlinkEntry {
  return { type: 'symlink', path: bytesOf(name), ...base(0o777), target: bytesOf(target) };
}

function base(mode: number) {
  return { mode, uid: 1000, gid: 1000, mtimeSeconds: 1_700_000_000, mtimeNanos: 5 };
}

function xattr(name: string, value: string): Xattr {
  return { name: bytesOf(name), value: Buffer.from(value) };
}
