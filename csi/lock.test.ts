import { describe, expect, it } from 'vitest';
import { PendingError } from './errors.ts';
import { createKeyedLock } from './lock.ts';

describe('a lock by key', () => {
  it('refuses a second task for a key while the first runs, and lets other keys through', async () => {
    const lock = createKeyedLock();
    const first = Promise.withResolvers<string>();
    const running = lock('a', () => first.promise);
    await expect(lock('a', async () => 'second')).rejects.toThrow(PendingError);
    await expect(lock('b', async () => 'other')).resolves.toBe('other');
    first.resolve('first');
    await expect(running).resolves.toBe('first');
    await expect(lock('a', async () => 'third')).resolves.toBe('third');
  });

  it('is free again after a task that failed', async () => {
    const lock = createKeyedLock();
    await expect(lock('a', () => Promise.reject(new Error('disk full')))).rejects.toThrow('disk full');
    await expect(lock('a', async () => 1)).resolves.toBe(1);
  });
});
