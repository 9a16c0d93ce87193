import { describe, expect, it } from 'vitest';
import { createPenalties } from './penalties.ts';

function clocked() {
  let time = 0;
  const penalties = createPenalties({ first: 100, longest: 1000, now: () => time, random: () => 0.5 });
  return {
    penalties,
    pass: (milliseconds: number) => {
      time += milliseconds;
    },
  };
}

describe('a neighbour that failed', () => {
  it('is passed over, then tried by one, and asked by all again when that succeeded', () => {
    const { penalties, pass } = clocked();
    expect(penalties.allows('a')).toBe(true);
    penalties.failed('a', penalties.now());
    expect(penalties.allows('a')).toBe(false);
    expect(penalties.allows('b')).toBe(true);
    expect(penalties.passedOver).toEqual(['a']);
    pass(100);
    expect(penalties.allows('a')).toBe(true);
    expect(penalties.allows('a')).toBe(false);
    penalties.succeeded('a');
    expect(penalties.allows('a')).toBe(true);
    expect(penalties.allows('a')).toBe(true);
  });

  it('is passed over twice as long each time, up to a limit', () => {
    const { penalties, pass } = clocked();
    const pauses: number[] = [];
    for (let time = 0; time < 6; time++) {
      penalties.failed('a', penalties.now());
      let pause = 0;
      for (; !penalties.allows('a'); pause += 10) pass(10);
      pauses.push(pause);
    }
    expect(pauses).toEqual([100, 200, 400, 800, 1000, 1000]);
  });

  it('is passed over once for all requests that were under way together', () => {
    const { penalties, pass } = clocked();
    const began = penalties.now();
    pass(5);
    for (let at = 0; at < 10; at++) penalties.failed('a', began);
    pass(100);
    expect(penalties.allows('a')).toBe(true);
  });

  it('is tried by another when whoever tried it never said how that ended', () => {
    const { penalties, pass } = clocked();
    penalties.failed('a', penalties.now());
    pass(100);
    expect(penalties.allows('a')).toBe(true);
    pass(99);
    expect(penalties.allows('a')).toBe(false);
    pass(1);
    expect(penalties.allows('a')).toBe(true);
  });
});
