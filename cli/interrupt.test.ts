import { describe, expect, it } from 'vitest';
import { exitCodeOf } from './exit-code.ts';
import { abortOnSignal, Interrupted } from './interrupt.ts';

describe('a signal', () => {
  it('aborts once; the next one finds no handler and ends the process', async () => {
    const before = process.listenerCount('SIGTERM');
    using signal = abortOnSignal();
    expect(process.listenerCount('SIGTERM')).toBe(before + 1);
    const aborted = new Promise((resolve) => signal.addEventListener('abort', resolve));
    process.kill(process.pid, 'SIGTERM');
    await aborted;
    expect(signal.reason).toBeInstanceOf(Interrupted);
    expect(exitCodeOf(signal.reason)).toBe(143);
    expect(process.listenerCount('SIGTERM')).toBe(before);
  });

  it('is let go of at the end', () => {
    const before = process.listenerCount('SIGINT');
    {
      using _ = abortOnSignal();
    }
    expect(process.listenerCount('SIGINT')).toBe(before);
  });
});
