import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { watchLife } from './life.ts';

const DEADLINES = { reach: 2_000, silence: 5_000, stall: 10_000 };
const ENOUGH = 1024 * 1024;

/** A neighbour, who answers when it is asked for a sign of life, and what a request that waits for it was told. */
function neighbour(answers: 'itself' | 'its kernel' | 'nobody') {
  const told: string[] = [];
  const asked: AbortSignal[] = [];
  const life = watchLife({
    peer: 'a',
    deadlines: DEADLINES,
    ask: async (signal, reached) => {
      asked.push(signal);
      if (answers !== 'nobody') reached();
      if (answers === 'itself') return life.heard();
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
    },
  });
  return { life, told, asked, wait: () => life.wait(({ message }) => told.push(message)) };
}

describe('a neighbour that somebody waits for', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it.each([
    ['nobody', 2_000, 'a cannot be reached in 2000 ms'],
    ['its kernel', 5_000, 'a gave no sign of life in 5000 ms'],
  ] as const)('is given up by all who wait when %s answers', async (answers, after, why) => {
    const { wait, told, asked } = neighbour(answers);
    using _first = wait();
    await vi.advanceTimersByTimeAsync(after - 100);
    using _second = wait();
    expect(told).toEqual([]);
    await vi.advanceTimersByTimeAsync(100);
    expect(told).toEqual([why, why]);
    expect(asked.map(({ aborted }) => aborted)).toEqual([true]);
  });

  it('is waited for much longer when it says that it lives, but not for ever', async () => {
    const { wait, told, asked } = neighbour('itself');
    using _ = wait();
    await vi.advanceTimersByTimeAsync(9_900);
    expect(told).toEqual([]);
    expect(asked.length).toBeGreaterThan(9);
    await vi.advanceTimersByTimeAsync(100);
    expect(told).toEqual(['a lives, but brought too little in 10000 ms']);
  });

  it('is waited for as long as it brings something, and not asked', async () => {
    const { life, wait, told, asked } = neighbour('nobody');
    using waiting = wait();
    for (let time = 0; time < 60_000; time += 250) {
      life.heard();
      if (time % 5_000 === 0) waiting.brought(ENOUGH);
      await vi.advanceTimersByTimeAsync(250);
    }
    expect(told).toEqual([]);
    expect(asked).toEqual([]);
  });

  it('is given up for one object that comes too slowly, while others come', async () => {
    const { life, wait, told } = neighbour('itself');
    using slow = wait();
    using quick = wait();
    for (let time = 0; time < 10_000; time += 500) {
      life.heard();
      slow.brought(1_000);
      quick.brought(ENOUGH);
      await vi.advanceTimersByTimeAsync(500);
    }
    expect(told).toEqual(['a lives, but brought too little in 10000 ms']);
  });

  it('is not to blame for what its reader takes for himself', async () => {
    const { wait, told, asked } = neighbour('nobody');
    using waiting = wait();
    waiting.waiting = false;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(told).toEqual([]);
    expect(asked).toEqual([]);
  });
});

it('a neighbour is not given up for time in which this process stood still', async () => {
  const { wait, told } = neighbour('nobody');
  using _ = wait();
  const until = performance.now() + 2 * DEADLINES.silence;
  while (performance.now() < until);
  await turn();
  await turn();
  expect(told).toEqual([]);
});
