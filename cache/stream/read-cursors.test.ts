import { expect, it } from 'vitest';
import { ReadCursors } from './read-cursors.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** How much is ahead after each of so many reads in order, in KiB. */
function ahead(cursors: ReadCursors, from: number, step: number, reads: number, window = 64 * MIB): number[] {
  return Array.from({ length: reads }, (_, at) => {
    const offset = from + at * step;
    return (cursors.read(offset, step, window) - offset - step) / KIB;
  });
}

it('goes further ahead the longer a reader goes on, up to the window', () => {
  expect(ahead(new ReadCursors(), 0, 128 * KIB, 4)).toEqual([0, 512, 768, 1024]);
  expect(ahead(new ReadCursors(), 0, MIB, 50, 8 * MIB).at(-1)).toBe(8 * KIB);
});

it('has nothing ahead of reads at random', () => {
  const cursors = new ReadCursors();
  for (const at of [50, 10, 90, 30, 70, 20]) expect(cursors.read(at * MIB, 4096, 64 * MIB)).toBe(at * MIB + 4096);
});

it('tells readers apart who take turns', () => {
  const cursors = new ReadCursors();
  for (let at = 0; at < 20; at += 1) {
    for (const start of [0, 200 * MIB, 400 * MIB]) cursors.read(start + at * MIB, MIB, 16 * MIB);
  }
  for (const start of [0, 200 * MIB, 400 * MIB])
    expect(cursors.read(start + 20 * MIB, MIB, 16 * MIB)).toBe(start + 37 * MIB);
  expect(cursors.count).toBe(3);
});

it('takes reads that come out of order, and a reader who is met again at the end of what was fetched', () => {
  const cursors = new ReadCursors();
  for (const at of [0, 2, 1, 4, 3, 5]) cursors.read(at * 128 * KIB, 128 * KIB, 64 * MIB);
  const end = cursors.read(6 * 128 * KIB, 128 * KIB, 64 * MIB);
  expect(end).toBe(3 * 7 * 128 * KIB);
  cursors.read(end, 128 * KIB, 64 * MIB);
  expect(cursors.count).toBe(1);
});

it('forgets those longest gone when there are many', () => {
  const cursors = new ReadCursors();
  for (let at = 0; at < 100; at += 1) cursors.read(at * 10 * MIB, 4096, MIB);
  expect(cursors.count).toBe(16);
});
