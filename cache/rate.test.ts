import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Rate } from './rate.ts';

const { signal } = new AbortController();
const BLOCK = 20_000;

describe('a rate', () => {
  it('lets so many bytes a second through, however many ask, and each of them as much', async () => {
    const rate = new Rate(1_000_000);
    await rate.take(1_000_000 / 4, false, signal);
    const began = performance.now();
    const passed = [0, 0, 0, 0];
    const readers = passed.map(async (_, reader) => {
      while (performance.now() - began < 1_000) {
        await rate.take(BLOCK, false, signal);
        passed[reader]! += BLOCK;
      }
    });
    await Promise.all(readers);
    const seconds = (performance.now() - began) / 1000;
    const all = passed.reduce((sum, bytes) => sum + bytes);
    expect(all / seconds).toBeGreaterThan(800_000);
    // One block each may be in advance.
    expect(all / seconds).toBeLessThan(1_000_000 + (4 * BLOCK) / seconds);
    expect(Math.max(...passed) - Math.min(...passed)).toBeLessThanOrEqual(2 * BLOCK);
  });

  it('serves those first whom somebody waits for', async () => {
    const rate = new Rate(200_000);
    await rate.take(100_000, false, signal);
    const order: string[] = [];
    const others = ['a', 'b', 'c'].map((name) => rate.take(BLOCK, false, signal).then(() => order.push(name)));
    const urgent = rate.take(BLOCK, true, signal).then(() => order.push('urgent'));
    await Promise.all([...others, urgent]);
    expect(order).toEqual(['urgent', 'a', 'b', 'c']);
  });

  it('lets all go at once where it is lifted, and holds none back that is called off', async () => {
    const rate = new Rate(10);
    await rate.take(1_000_000, false, signal);
    const stopping = new AbortController();
    const left = rate.take(1, false, stopping.signal);
    const waits = Promise.all([rate.take(BLOCK, false, signal), rate.take(BLOCK, true, signal)]);
    stopping.abort(new Error('not wanted'));
    await expect(left).rejects.toThrow('not wanted');
    expect(await Promise.race([waits.then(() => 'gone'), sleep(50).then(() => 'waits')])).toBe('waits');
    rate.bytesPerSecond = Number.POSITIVE_INFINITY;
    await waits;
  });
});
