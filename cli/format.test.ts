import { describe, expect, it } from 'vitest';
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatFileTime,
  formatMode,
  formatNumberOf,
  formatTimestamp,
} from './format.ts';

describe('numbers for people', () => {
  it('gives bytes in IEC units with three significant digits', () => {
    const cases: [number, string][] = [
      [0, '0 B'],
      [1023, '1023 B'],
      [1024, '1.00 KiB'],
      [1536, '1.50 KiB'],
      [10 * 1024, '10.0 KiB'],
      [102_349, '100 KiB'],
      [1024 ** 2 - 1, '1.00 MiB'],
      [3 * 1024 ** 3, '3.00 GiB'],
      [-2048, '-2.00 KiB'],
      [5 * 1024 ** 5, '5.00 PiB'],
      [5000 * 1024 ** 5, '5000 PiB'],
    ];
    for (const [bytes, text] of cases) expect(formatBytes(bytes)).toBe(text);
  });

  it('never shows a thousand of a unit as 1024', () => {
    for (let exponent = 1; exponent <= 5; exponent++) {
      for (const offset of [-2, -1, 0, 1, 2]) {
        expect(formatBytes(1024 ** exponent + offset)).not.toMatch(/^1024 [KMGT]/);
      }
    }
  });

  it('sets thousands apart', () => {
    expect([0, 999, 1000, 3786, 1_234_567].map(formatCount)).toEqual(['0', '999', '1,000', '3,786', '1,234,567']);
    expect(formatNumberOf(1, 'entry', 'entries')).toBe('1 entry');
    expect(formatNumberOf(1000, 'file')).toBe('1,000 files');
  });

  it('picks a unit of time that reads well', () => {
    expect([27, 999, 4_230, 59_949, 59_960, 200_000, 3_900_000].map(formatDuration)).toEqual([
      '27 ms',
      '999 ms',
      '4.2 s',
      '59.9 s',
      '1 min 00 s',
      '3 min 20 s',
      '1 h 05 min',
    ]);
  });

  it('keeps nanoseconds, also of times before 1970', () => {
    expect(formatFileTime(1_764_086_734, 5)).toBe('2025-11-25T16:05:34.000000005Z');
    expect(formatFileTime(-1, 999_999_999)).toBe('1969-12-31T23:59:59.999999999Z');
    expect(formatFileTime(2 ** 52, 0)).toBe(`@${2 ** 52}.000000000`);
  });

  it('says how far local time is from UTC', () => {
    expect(formatTimestamp('2026-11-25T16:05:34.000Z')).toMatch(/^2026-11-2\d \d\d:\d\d:34 [+-]\d{4}$/);
  });

  it('writes modes as ls does', () => {
    expect(formatMode('directory', 0o755)).toBe('drwxr-xr-x');
    expect(formatMode('file', 0o4755)).toBe('-rwsr-xr-x');
    expect(formatMode('file', 0o2644)).toBe('-rw-r-Sr--');
    expect(formatMode('directory', 0o1777)).toBe('drwxrwxrwt');
    expect(formatMode('symlink', 0o777)).toBe('lrwxrwxrwx');
  });
});
