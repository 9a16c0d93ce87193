import { expect, it } from 'vitest';
import { type ByteString, bytesOf, fromBuffer } from '../dataset/byte-string.ts';
import { globMatcher } from './glob.ts';

const cases: readonly (readonly [pattern: string, matching: readonly string[], other: readonly string[]])[] = [
  ['train', ['train', 'train/a', 'train/a/b.png'], ['trains', 'x/train', 'test/train']],
  ['/train/', ['train/a'], ['trains/a']],
  ['*.png', ['a.png', '.png', 'a.png/inner'], ['a.jpg', 'd/a.png', 'apng']],
  ['**/*.png', ['a.png', 'd/a.png', 'd/e/a.png'], ['a.jpg', 'd/a.png.txt']],
  ['d/**/x', ['d/x', 'd/e/x', 'd/e/f/x'], ['x', 'dx', 'd/ex']],
  ['a?c', ['abc', 'aéc', 'a\u{1f600}c'], ['ac', 'a/c', 'abbc']],
  ['[a-c]1', ['a1', 'c1'], ['d1', '/1', 'aa1']],
  ['[!a-c]1', ['d1'], ['a1', '/1']],
  ['{train,test}/*.bin', ['train/1.bin', 'test/2.bin'], ['val/1.bin', 'train,test/1.bin']],
  ['a\\*b', ['a*b'], ['axb']],
  ['a.b+(c)|$^', ['a.b+(c)|$^'], ['aXb+(c)|$^', 'a.bb(c)|$^']],
  ['Übung', ['Übung/1'], ['Ubung/1']],
  ['', ['anything', 'at/all'], []],
];

it.each(cases)('the pattern %j takes what it should and leaves the rest', (pattern, matching, other) => {
  const matches = globMatcher(pattern);
  for (const path of matching) expect(matches(bytesOf(path)), path).toBe(true);
  for (const path of other) expect(matches(bytesOf(path)), path).toBe(false);
});

it('takes names that are not UTF-8', () => {
  const name = fromBuffer(Buffer.from([0x61, 0xff, 0x0a, 0x62])) as ByteString;
  expect(globMatcher('a*b')(name)).toBe(true);
  expect(globMatcher('c*')(name)).toBe(false);
});
