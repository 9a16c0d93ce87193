import { describe, expect, it } from 'vitest';
import { sha256 } from './digest.ts';
import { checkRules, type KeepRules, keptOf } from './retention.ts';

/** Versions, newest first, named by their times. */
const history = (...times: string[]) => times.map((time) => ({ id: sha256(time), time: `${time}:00.000Z` }));

function kept(rules: KeepRules, ...times: string[]): string[] {
  const ids = new Set(keptOf(history(...times), rules));
  return times.filter((time) => ids.has(sha256(time)));
}

describe('of a history', () => {
  const days = ['2025-03-05T18:00', '2025-03-05T09:00', '2025-03-04T12:00', '2025-03-02T23:59', '2025-03-02T00:00'];

  it('the newest versions stay', () => {
    expect(kept({ last: 2 }, ...days)).toEqual(days.slice(0, 2));
    expect(kept({ last: 99 }, ...days)).toEqual(days);
  });

  it('the newest of each day stays, of the last days that have one', () => {
    expect(kept({ daily: 2 }, ...days)).toEqual(['2025-03-05T18:00', '2025-03-04T12:00']);
    expect(kept({ daily: 3 }, ...days)).toEqual(['2025-03-05T18:00', '2025-03-04T12:00', '2025-03-02T23:59']);
  });

  it('the newest of each week stays; Monday begins one', () => {
    // The second of March 2025 was a Sunday.
    expect(kept({ weekly: 2 }, '2025-03-05T18:00', '2025-03-03T00:00', '2025-03-02T23:59', '2025-02-24T00:00')).toEqual(
      ['2025-03-05T18:00', '2025-03-02T23:59'],
    );
  });

  it('what any rule keeps stays', () => {
    expect(kept({ last: 1, daily: 2, weekly: 2 }, ...days)).toEqual([
      '2025-03-05T18:00',
      '2025-03-04T12:00',
      '2025-03-02T23:59',
    ]);
  });
});

it.each([0, -1, 1.5, Number.NaN])('a rule of %d versions is refused', (last) => {
  expect(() => checkRules({ last })).toThrow(/--keep-last/);
});
