import { expect, test } from 'vitest';
import { beginnings, flippedBits } from '../../test/support/flip-bits.ts';
import { createRandom } from '../../test/support/random.ts';
import { randomTree } from '../../test/support/random-tree.ts';
import { type ByteString, bytesOf } from '../byte-string.ts';
import { sha256 } from '../digest.ts';
import type { Entry } from '../entry.ts';
import { CorruptError } from '../errors.ts';
import { formatEntries, formatIndexNode } from './entry-text.ts';
import { decodeIndexNode, encodeIndexNode, type IndexNode, type SegmentRef } from './index-node.ts';
import { encodeLeaf } from './leaf.ts';
import { decodeSegment, sealSegment, unsealSegment } from './segment.ts';

const child = (first: string, last: string): SegmentRef => ({
  digest: sha256(first),
  first: bytesOf(first),
  last: bytesOf(last),
  entries: 3,
  bytes: 2 ** 41,
});
const node: IndexNode = { level: 2, children: [child('', 'a/b'), child('a/c', 'a/c'), child('a0', 'z')] };

test('a segment is named by what it holds, compressed or not', () => {
  const raw = encodeLeaf(randomTree(createRandom(1), 300));
  const { digest, object } = sealSegment(raw);
  expect(digest).toBe(sha256(raw));
  expect(object[1].length).toBeLessThan(raw.length);
  const plain = sealSegment(Buffer.from([0, 0, 0, 0, 0]));
  expect(plain.object[1]).toEqual(Buffer.from([0, 0, 0, 0, 0]));
  expect(unsealSegment(plain.digest, Buffer.concat(plain.object))).toEqual(Buffer.from([0, 0, 0, 0, 0]));
});

test('leaf and index come back from their objects', () => {
  const tree = randomTree(createRandom(2), 300);
  const leaf = sealSegment(encodeLeaf(tree));
  expect(formatEntries(decodeSegment(leaf.digest, Buffer.concat(leaf.object)) as Entry[])).toBe(formatEntries(tree));
  const index = sealSegment(encodeIndexNode(node));
  expect(decodeSegment(index.digest, Buffer.concat(index.object))).toEqual(node);
  expect(formatIndexNode(node)).toBe(
    `level 2\n${sha256('')} 3 2199023255552 "" a/b\n${sha256('a/c')} 3 2199023255552 a/c a/c\n${sha256('a0')} 3 2199023255552 a0 z\n`,
  );
});

test('a flipped bit in a segment is found, or changes nothing of what it holds', () => {
  const random = createRandom(3);
  const tree = randomTree(random, 60);
  for (const raw of [encodeLeaf(tree), encodeIndexNode(node)]) {
    const { digest, object } = sealSegment(raw);
    let refused = 0;
    let count = 0;
    for (const { damaged } of flippedBits(random, Buffer.concat(object), 6000)) {
      count += 1;
      try {
        expect(unsealSegment(digest, damaged).equals(raw)).toBe(true);
      } catch (error) {
        expect(error).toBeInstanceOf(CorruptError);
        expect((error as Error).message).toContain(`segment ${digest}`);
        refused += 1;
      }
    }
    expect(refused).toBeGreaterThan(count * 0.98);
  }
});

test('a cut, a lengthened and a foreign segment are refused', () => {
  const random = createRandom(4);
  const { digest, object } = sealSegment(encodeLeaf(randomTree(random, 100)));
  const whole = Buffer.concat(object);
  for (const part of beginnings(random, whole)) expect(() => decodeSegment(digest, part)).toThrow(CorruptError);
  expect(() => decodeSegment(digest, Buffer.concat([whole, Buffer.from([0])]))).toThrow(CorruptError);
  expect(() => decodeSegment(sha256('other'), whole)).toThrow(`segment ${sha256('other')} is damaged: its digest is`);
});

test('a segment cannot make its reader allocate more than it tells, nor tell of too much', () => {
  const { digest, object } = sealSegment(Buffer.alloc(8 * 1024 * 1024));
  const bomb = Buffer.concat(object);
  bomb.writeUInt32LE(1000, 6);
  expect(() => unsealSegment(digest, bomb)).toThrow('zstd frame cannot be read');
  bomb.writeUInt32LE(0xffff_ffff, 6);
  expect(() => unsealSegment(digest, bomb)).toThrow('tells of 4294967295 bytes');
});

test('an index is refused when its children are out of order, empty, none, or its level cannot be', () => {
  const bad: [IndexNode, string][] = [
    [{ level: 1, children: [child('b', 'c'), child('a', 'a')] }, 'not in path order'],
    [{ level: 1, children: [child('b', 'a')] }, 'not in path order'],
    [{ level: 1, children: [child('a', 'b'), child('b', 'c')] }, 'not in path order'],
    [{ level: 1, children: [{ ...child('a', 'b'), entries: 0 }] }, 'has no entry'],
    [{ level: 1, children: [{ ...child('a', 'b'), first: '../x' as ByteString }] }, "component '..'"],
    [{ level: 1, children: [] }, 'has no child'],
    [{ level: 13, children: [child('a', 'b')] }, 'level 13'],
    [{ level: 0, children: [child('a', 'b')] }, 'level 0'],
  ];
  for (const [index, fault] of bad) expect(() => decodeIndexNode('it', encodeIndexNode(index))).toThrow(fault);
});

test('an index is read without doubt: each flipped bit gives another valid index or is refused', () => {
  const random = createRandom(5);
  const raw = encodeIndexNode(node);
  for (const { damaged, at } of flippedBits(random, raw)) {
    let decoded: IndexNode;
    try {
      decoded = decodeIndexNode('it', damaged);
    } catch (error) {
      expect(error).toBeInstanceOf(CorruptError);
      continue;
    }
    expect(encodeIndexNode(decoded).equals(damaged), at).toBe(true);
  }
  for (const part of beginnings(random, raw)) expect(() => decodeIndexNode('it', part)).toThrow(CorruptError);
});
