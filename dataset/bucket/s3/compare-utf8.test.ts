import { expect, test } from 'vitest';
import { compareUtf8 } from './compare-utf8.ts';

test('texts come in the order of their bytes', () => {
  const texts = [
    '',
    'a',
    'a/',
    'a/b',
    'a0',
    'aa',
    'ab',
    'z',
    'ä',
    '\u{d7ff}',
    '\u{e000}',
    '\u{ffff}',
    '\u{10000}',
    '\u{10ffff}',
    'a\u{10000}',
    'a\u{e000}',
    '\u{1f600}x',
    '\u{1f601}',
  ];
  for (const a of texts)
    for (const b of texts)
      expect(Math.sign(compareUtf8(a, b)), `${a} and ${b}`).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)));
});
