import { describe, expect, it } from 'vitest';
import { type Ahead, Course } from './course.ts';

interface Read {
  /** Segments in which something was missing when it was opened, in this order. */
  readonly misses: readonly number[];
  /** All that was fetched ahead. */
  readonly ahead: ReadonlySet<number>;
  readonly decisions: readonly Ahead[];
}

/** Reads segments in this order. What was missed or fetched ahead is there from then on. */
function read(course: Course, segments: number, order: Iterable<number>): Read {
  const there = new Set<number>();
  const ahead = new Set<number>();
  const misses: number[] = [];
  const decisions: Ahead[] = [];
  let now = 0;
  for (const segment of order) {
    now += 10;
    if (there.has(segment)) continue;
    misses.push(segment);
    there.add(segment);
    const next = course.miss(segment, now);
    if (!next) continue;
    decisions.push(next);
    const [from, to] = next.kind === 'rest' ? [0, segments] : [next.from, next.to];
    for (let at = from; at < to; at += 1) {
      if (!there.has(at)) ahead.add(at);
      there.add(at);
    }
  }
  return { misses, ahead, decisions };
}

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, at) => from + at);

/** The same shuffle each time. */
function shuffled(count: number, seed = 1): number[] {
  const order = numbers(0, count);
  let state = seed;
  for (let at = count - 1; at > 0; at -= 1) {
    state = (state * 48271) % 2147483647;
    const other = state % (at + 1);
    [order[at], order[other]] = [order[other]!, order[at]!];
  }
  return order;
}

describe('reading in the order of a directory', () => {
  it('is waited for ever more rarely', () => {
    const { misses, decisions } = read(new Course(1000), 1000, numbers(0, 1000));
    expect(misses.slice(0, 4)).toEqual([0, 1, 2, 6]);
    expect(misses.length).toBeLessThan(14);
    expect(decisions.every(({ kind }) => kind === 'following')).toBe(true);
  });

  it('fetches no more in vain than was read', () => {
    for (const end of [3, 10, 37, 200, 511]) {
      const { ahead } = read(new Course(10_000), 10_000, numbers(500, 500 + end));
      const vain = [...ahead].filter((segment) => segment >= 500 + end);
      expect(vain.length, `after ${end} segments`).toBeLessThanOrEqual(end);
    }
  });

  it('fetches nothing for one or two misses', () => {
    expect(read(new Course(1000), 1000, [7, 8]).decisions).toEqual([]);
  });

  it('never goes beyond the last segment', () => {
    const { ahead } = read(new Course(10), 10, numbers(0, 10));
    expect(Math.max(...ahead)).toBe(9);
  });

  it('of several readers, each in a part of his own, follows each', () => {
    const readers = [0, 1000, 2000, 3000].map((from) => numbers(from, from + 300));
    const order = numbers(0, 300).flatMap((at) => readers.map((reader) => reader[at]!));
    const { misses, decisions } = read(new Course(4000), 4000, order);
    expect(misses.length).toBeLessThan(50);
    expect(decisions.every(({ kind }) => kind === 'following')).toBe(true);
  });
});

describe('an epoch in random order', () => {
  it.each([8, 75, 1000])(
    'of a version of %i segments has the rest fetched after misses in a small part of it',
    (count) => {
      const { misses, decisions } = read(new Course(count), count, shuffled(count));
      expect(decisions.at(-1)).toEqual({ kind: 'rest' });
      expect(misses.length).toBeLessThanOrEqual(Math.max(8, count / 8));
    },
  );

  it('of a very large version needs a bounded number of misses', () => {
    const { misses } = read(new Course(100_000), 100_000, shuffled(100_000));
    expect(misses.length).toBeLessThan(400);
  });

  it('is not taken from a few opens here and there', () => {
    expect(read(new Course(1000), 1000, shuffled(1000).slice(0, 50)).decisions).toEqual([]);
  });

  it('is not taken from opens with long pauses between them', () => {
    const course = new Course(100);
    for (const [at, segment] of shuffled(100).entries()) expect(course.miss(segment, at * 3_600_000)).toBeUndefined();
  });

  it('has the rest fetched again when it was given up and misses go on', () => {
    const course = new Course(100);
    const decisions = shuffled(100).map((segment, at) => course.miss(segment, at));
    expect(decisions.filter((ahead) => ahead?.kind === 'rest').length).toBeGreaterThan(1);
  });
});
