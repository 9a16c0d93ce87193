import { describe, expect, it } from 'vitest';
import { Pace } from './pace.ts';

/** Lets a store give `rateOf(reads)` bytes a second for so many seconds; the numbers of reads that there were. */
function run(pace: Pace, seconds: number, rateOf: (reads: number) => number, from = 0): number[] {
  const limits: number[] = [];
  for (let tick = 0; tick <= seconds * 10; tick += 1) {
    limits.push(pace.limit);
    pace.note(rateOf(pace.limit) / 10, true, (from + tick / 10) * 1000);
  }
  return limits;
}

describe('the number of reads at a time', () => {
  it('grows while each one more brings more', () => {
    const pace = new Pace(16);
    run(pace, 30, (reads) => Math.min(12, reads) * 10e6);
    expect(pace.limit).toBeGreaterThanOrEqual(11);
    expect(pace.limit).toBeLessThanOrEqual(13);
  });

  it('stays where one more brings nothing, and is never more than it may', () => {
    const pace = new Pace(8);
    expect(Math.max(...run(pace, 60, () => 100e6))).toBe(5);
    const few = new Pace(3);
    expect(Math.max(...run(few, 60, (reads) => reads * 10e6))).toBe(3);
  });

  it('comes down where the store slows under more, and goes on', () => {
    const pace = new Pace(16);
    const limits = run(pace, 120, (reads) => (reads > 6 ? 60e6 / reads : reads * 10e6));
    expect(Math.max(...limits.slice(100))).toBeLessThanOrEqual(7);
    expect(Math.min(...limits)).toBeGreaterThanOrEqual(1);
    run(pace, 60, (reads) => reads * 10e6, 1000);
    expect(pace.limit).toBeGreaterThan(7);
  });

  it('is not judged by times when nothing waited for a read', () => {
    const pace = new Pace(16);
    for (let second = 0; second < 100; second += 1) pace.note(1e6, false, second * 1000);
    expect(pace.limit).toBe(4);
  });
});
