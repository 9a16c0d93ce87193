import { describe, expect, test } from 'vitest';
import { beginnings, flippedBits } from '../../test/support/flip-bits.ts';
import { createRandom } from '../../test/support/random.ts';
import { randomTree } from '../../test/support/random-tree.ts';
import { type ByteString, bytesOf, fromBuffer } from '../byte-string.ts';
import { sha256 } from '../digest.ts';
import type { Entry, FileEntry } from '../entry.ts';
import { CorruptError, InvalidError } from '../errors.ts';
import { formatEntries, formatEntry } from './entry-text.ts';
import { decodeLeaf, encodeLeaf } from './leaf.ts';

const file: FileEntry = {
  type: 'file',
  path: bytesOf('a/b'),
  mode: 0o644,
  uid: 1000,
  gid: 100,
  mtimeSeconds: 1_700_000_000,
  mtimeNanos: 5,
  size: 5,
  content: { kind: 'inline', bytes: Buffer.from('hello') },
};

describe('a leaf segment', () => {
  test('gives back random trees exactly', () => {
    for (let seed = 0; seed < 30; seed++) {
      const tree = randomTree(createRandom(seed), 400);
      const decoded = decodeLeaf('it', encodeLeaf(tree));
      expect(decoded).toEqual(tree);
      expect(formatEntries(decoded)).toBe(formatEntries(tree));
      expect(encodeLeaf(decoded).equals(encodeLeaf(tree))).toBe(true);
    }
  });

  test('has the layout that the documentation gives', () => {
    const link: Entry = { ...base('l'), type: 'symlink', target: bytesOf('a/b') };
    const chunk: Entry = {
      ...file,
      path: bytesOf('x'),
      content: { kind: 'chunk', id: sha256('x') },
      link: bytesOf('y'),
    };
    const raw = encodeLeaf([
      { ...base(''), type: 'directory' },
      { ...base('a'), type: 'directory' },
      file,
      link,
      chunk,
    ]);
    const rows = [
      '01 00 ed03 00 00 00 00',
      '01 01 ed03 00 00 00 00',
      '00 03 a403 e807 64 80c49fd50c 05 05',
      '02 01 ed03 00 00 ffc39fd50c 00 03',
      '24 01 a403 e807 64 80c49fd50c 05 05 01',
    ];
    const rowBytes = Buffer.from(rows.join('').replaceAll(' ', ''), 'hex');
    const texts = Buffer.from('aa/bla/bxy');
    const expected = Buffer.concat([
      Buffer.from([0, 5, rowBytes.length, texts.length, 1]),
      rowBytes,
      texts,
      Buffer.from(sha256('x'), 'hex'),
      Buffer.from('hello'),
    ]);
    expect(raw.toString('hex')).toBe(expected.toString('hex'));
  });

  test('is read without doubt: each flipped bit gives another valid leaf or is refused', () => {
    const random = createRandom(7);
    for (let seed = 0; seed < 4; seed++) {
      const tree = randomTree(random, 12);
      const raw = encodeLeaf(tree);
      for (const { damaged, at } of flippedBits(random, raw)) {
        const decoded = decodedOrRefused(damaged);
        if (decoded !== undefined) expect(encodeLeaf(decoded).equals(damaged), at).toBe(true);
      }
    }
  });

  test('is refused when it is cut or followed by more', () => {
    const random = createRandom(8);
    const raw = encodeLeaf(randomTree(random, 40));
    for (const part of beginnings(random, raw)) expect(() => decodeLeaf('it', part)).toThrow(CorruptError);
    expect(() => decodeLeaf('it', Buffer.concat([raw, Buffer.from([0])]))).toThrow(CorruptError);
  });

  test('is refused by its counts before they allocate', () => {
    for (const hex of ['00ffffffffffffff0f', '0001ffffffffffffff0f', '00ffffff7f00000000'])
      expect(() => decodeLeaf('it', Buffer.from(hex.padEnd(80, '0'), 'hex'))).toThrow(CorruptError);
  });

  test.each([
    ['..', "the component '..'"],
    ['x/', "ends with '/'"],
    ['x/../y', "the component '..'"],
    ['x\0', 'a NUL byte'],
  ])('with the path %j is refused in reading too', (path, fault) => {
    const filler = 'x'.repeat(path.length);
    const raw = encodeLeaf([{ ...file, path: bytesOf(filler) }]);
    const at = raw.indexOf(filler);
    raw.write(path, at, 'latin1');
    expect(() => decodeLeaf('segment 1', raw)).toThrow(fault);
    expect(() => decodeLeaf('segment 1', raw)).toThrow(/^segment 1 is damaged/);
  });

  test('with a path twice or out of order is refused in reading too', () => {
    const raw = encodeLeaf([
      { ...file, path: bytesOf('aa') },
      { ...file, path: bytesOf('ab') },
    ]);
    const at = raw.indexOf('aaab');
    for (const texts of ['aaaa', 'abaa']) {
      raw.write(texts, at, 'latin1');
      expect(() => decodeLeaf('it', raw)).toThrow('no path order');
    }
  });

  const wrong: [string, Partial<FileEntry>][] = [
    ['a mode with other bits', { mode: 0o100644 }],
    ['a negative owner', { uid: -1 }],
    ['the owner that means none', { gid: 0xffff_ffff }],
    ['too many nanoseconds', { mtimeNanos: 1_000_000_000 }],
    ['half a second', { mtimeSeconds: 0.5 }],
    ['a size that its bytes do not have', { size: 6 }],
    ['too much inline', { size: 257, content: { kind: 'inline', bytes: Buffer.alloc(257) } }],
    ['no bytes and a chunk', { size: 0, content: { kind: 'chunk', id: sha256('') } }],
    [
      'one chunk as a part list',
      { content: { kind: 'chunks', id: sha256(''), parts: [{ length: 5, chunk: sha256('') }] } },
    ],
    ['a hole after a hole', { content: { kind: 'chunks', id: sha256(''), parts: [{ length: 2 }, { length: 3 }] } }],
    ['parts of another size', { content: { kind: 'chunks', id: sha256(''), parts: [{ length: 4 }] } }],
    ['an attribute outside user.', { xattrs: [{ name: bytesOf('trusted.x'), value: Buffer.alloc(0) }] }],
    ['no attributes', { xattrs: [] }],
    ['attributes twice', { xattrs: [attribute('user.a'), attribute('user.a')] }],
    ['a link group outside', { link: bytesOf('../x') }],
    ['the root as a file', { path: '' as ByteString }],
    ['a name of 256 bytes', { path: bytesOf('n'.repeat(256)) }],
  ];
  test.each(wrong)('takes no entry with %s', (_, fields) => {
    expect(() => encodeLeaf([{ ...file, ...fields }])).toThrow(InvalidError);
  });
});

test('an entry has one line that tells all of it', () => {
  expect(formatEntry({ ...file, link: bytesOf('g'), xattrs: [attribute('user.a')] })).toBe(
    'file 0644 1000:100 1700000000.000000005 5 inline:68656c6c6f a/b link:g user.a=01',
  );
  expect(formatEntry({ ...base('x y'), type: 'symlink', target: fromBuffer(Buffer.from([0xff])) })).toBe(
    'symlink 0755 0:0 0.000000000 "x y" -> \\xff',
  );
});

function base(path: string) {
  return { path: bytesOf(path), mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanos: 0 };
}

function attribute(name: string) {
  return { name: bytesOf(name), value: Buffer.from([1]) };
}

function decodedOrRefused(raw: Buffer): Entry[] | undefined {
  try {
    return decodeLeaf('it', raw);
  } catch (error) {
    if (error instanceof CorruptError) return undefined;
    throw error;
  }
}
