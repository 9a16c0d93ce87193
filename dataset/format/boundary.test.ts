import { expect, test } from 'vitest';
import { bytesOf } from '../byte-string.ts';
import { endsIndex, endsLeaf, pathHash } from './boundary.ts';

test('the hash of a path is the documented one', () => {
  const h = (text: string, level: number) => {
    let value = 2166136261n;
    const mask = 0xffff_ffffn;
    for (const byte of Buffer.from(text)) value = ((value ^ BigInt(byte)) * 16777619n) & mask;
    value ^= (BigInt(level) * 0x9e3779b9n) & mask;
    value = ((value ^ (value >> 16n)) * 0x85ebca6bn) & mask;
    value = ((value ^ (value >> 13n)) * 0xc2b2ae35n) & mask;
    return Number(value ^ (value >> 16n));
  };
  for (const text of ['', 'a', 'train/n01440764/n01440764_10026.JPEG', 'größe'])
    for (const level of [0, 1, 2, 12]) expect(pathHash(bytesOf(text), level)).toBe(h(text, level));
});

test('one path in 256 ends a leaf and one in 128 an index segment, each level by its own choice', () => {
  const paths = Array.from({ length: 100_000 }, (_, i) => bytesOf(`train/${i}`));
  const leaves = paths.filter((path) => endsLeaf(path, 64, 0));
  const first = paths.filter((path) => endsIndex(path, 1, 16, 0));
  expect(leaves.length).toBeGreaterThan(300);
  expect(leaves.length).toBeLessThan(500);
  expect(first.length).toBeGreaterThan(650);
  expect(first.length).toBeLessThan(950);
  expect(leaves.filter((path) => endsIndex(path, 1, 16, 0)).length).toBeLessThan(20);
});

test('a segment has its least and its most, whatever its paths are', () => {
  const paths = Array.from({ length: 20_000 }, (_, i) => bytesOf(`x${i}`));
  for (const path of paths) {
    expect(endsLeaf(path, 63, 1000)).toBe(false);
    expect(endsIndex(path, 2, 15, 2 ** 30)).toBe(false);
    expect(endsLeaf(path, 1024, 1000)).toBe(true);
    expect(endsLeaf(path, 1, 256 * 1024)).toBe(true);
    expect(endsIndex(path, 1, 1024, 0)).toBe(true);
    expect(endsIndex(path, 1, 16, 1024 * 1024)).toBe(true);
  }
});
