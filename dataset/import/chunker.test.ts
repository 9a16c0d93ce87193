import { describe, expect, it } from 'vitest';
import { CHUNK_MAX, CHUNK_MIN, Cutter } from './chunker.ts';
import { noise } from './test-tree.ts';

/** Cuts as a reader does that gets `step` bytes at a time. */
function cut(data: Buffer, step: number): number[] {
  const cutter = new Cutter();
  const lengths: number[] = [];
  for (let start = 0; start < data.length; ) {
    let length = 0;
    for (let end = Math.min(start + step, data.length); length === 0; end = Math.min(end + step, data.length))
      length = cutter.cut(data.subarray(start, end), end === data.length);
    lengths.push(length);
    start += length;
  }
  return lengths;
}

describe('cutting a file into chunks', () => {
  const data = noise(48 << 20, 7);

  it('cuts at the same places however the bytes come in', () => {
    const whole = cut(data, data.length);
    expect(cut(data, 1 << 20)).toEqual(whole);
    expect(cut(data, 300_001)).toEqual(whole);
    expect(whole.reduce((sum, length) => sum + length, 0)).toBe(data.length);
  });

  it('keeps every chunk but the last between the smallest and the largest size', () => {
    for (const length of cut(data, 1 << 20).slice(0, -1)) {
      expect(length).toBeGreaterThan(CHUNK_MIN);
      expect(length).toBeLessThanOrEqual(CHUNK_MAX);
    }
  });

  it('cuts at these places for ever: another place would share nothing with what is stored', () => {
    expect(cut(data, 1 << 20)).toMatchInlineSnapshot(`
      [
        4392079,
        4431517,
        2496793,
        4412049,
        4372164,
        4215384,
        1425322,
        2843217,
        5174461,
        1543492,
        5365803,
        5921447,
        3737920,
      ]
    `);
  });

  it('finds the old cuts again behind bytes that were put in', () => {
    const before = cut(data, 1 << 20);
    const at = before[0]! + before[1]! + 100_000;
    const after = cut(Buffer.concat([data.subarray(0, at), Buffer.from('put in'), data.subarray(at)]), 1 << 20);
    expect(after.slice(0, 2)).toEqual(before.slice(0, 2));
    expect(after.at(-1)).toBe(before.at(-1));
    expect(after.at(-2)).toBe(before.at(-2));
  });

  it('cuts zeros at the largest size', () => {
    expect(cut(Buffer.alloc(40 << 20), 1 << 20)).toEqual([CHUNK_MAX, CHUNK_MAX, 8 << 20]);
  });
});
