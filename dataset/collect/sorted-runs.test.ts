import { hash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { createRandom } from '../../test/support/random.ts';
import { difference, follow, SortedRuns } from './sorted-runs.ts';

const hexes = (records: Iterable<Buffer>) => Array.from(records, (record) => record.toString('hex'));

describe('records in sorted runs', () => {
  it.each([
    [0, 1 << 20],
    [1, 1 << 20],
    [5_000, 1 << 20],
    [600, 32 * 3],
    [5_000, 32 * 500],
  ])('come out in order and once: %d of them, %d bytes in memory', (count, memory) => {
    const random = createRandom(count + memory);
    using runs = new SortedRuns({ width: 32, memory });
    const model = new Set<string>();
    for (let i = 0; i < count; i++) {
      // Few values, so that many come twice; some share their first bytes.
      const text = hash('sha256', String(random.below(count)), 'hex');
      const record = random.oneIn(4) ? '00'.repeat(16) + text.slice(32) : text;
      model.add(record);
      if (random.oneIn(2)) runs.addHex(record);
      else runs.add(Buffer.from(record, 'hex'));
    }
    expect(hexes(runs.read())).toEqual([...model].sort());
  });

  it('that are added while it is read come with the next reading', () => {
    using runs = new SortedRuns({ width: 2, memory: 4 });
    for (const value of ['0003', '0001', '0002']) runs.addHex(value);
    const seen: string[] = [];
    for (const record of runs.read()) {
      seen.push(record.toString('hex'));
      runs.addHex(`01${record.toString('hex').slice(2)}`);
    }
    expect(seen).toEqual(['0001', '0002', '0003']);
    expect(hexes(runs.read())).toEqual(['0001', '0002', '0003', '0101', '0102', '0103']);
  });

  it('can be joined with others in the same order', () => {
    using left = new SortedRuns({ width: 1 });
    using right = new SortedRuns({ width: 1 });
    for (const value of ['01', '02', '04', '07']) left.addHex(value);
    for (const value of ['00', '02', '07', '09']) right.addHex(value);
    expect(hexes(difference(left.read(), right.read()))).toEqual(['01', '04']);
    const isIn = follow(right.read());
    expect(['00', '01', '07', '08', '09', '0a'].map((value) => isIn(Buffer.from(value, 'hex')))).toEqual([
      true,
      false,
      true,
      false,
      true,
      false,
    ]);
  });
});
