import { describe, expect, it } from 'vitest';
import { parseBytes, parsePeriod } from './quantities.ts';

describe('sizes that people type', () => {
  it('are read in units of 1024', () => {
    expect(['512', '20G', '1.5 GiB', '10MB', '0', '3kib'].map(parseBytes)).toEqual([
      512,
      20 * 2 ** 30,
      1.5 * 2 ** 30,
      10 * 2 ** 20,
      0,
      3072,
    ]);
    expect(['', 'G', '-1', '1x', '1.2.3', '9999999P', 'Infinity', '1e3'].map(parseBytes)).toEqual(
      Array(8).fill(undefined),
    );
  });
});

describe('spans of time that people type', () => {
  it.each([
    ['90s', 90_000],
    ['30m', 1_800_000],
    ['24h', 86_400_000],
    ['1.5 d', 129_600_000],
    ['2w', 1_209_600_000],
  ])('%s is %d milliseconds', (text, milliseconds) => expect(parsePeriod(text)).toBe(milliseconds));

  it.each(['', '5', '5x', '-1h', 'h', '1h30m'])("'%s' is none", (text) => expect(parsePeriod(text)).toBeUndefined());
});
