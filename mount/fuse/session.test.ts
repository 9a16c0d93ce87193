import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { canMount } from '../../test/support/privilege.ts';
import { unmount } from '../unmount.ts';
import { startScript } from './testing/processes.ts';

describe.skipIf(!canMount)('a process that serves a FUSE mount', () => {
  let target: string;
  beforeEach(() => {
    target = mkdtempSync(join(tmpdir(), 'larder-session-'));
  });
  afterEach(async () => {
    await unmount(target);
    rmSync(target, { recursive: true });
  });

  async function ends(how: string, signal?: NodeJS.Signals): Promise<{ ended: number | string; after: number }> {
    const running = startScript('lonely.ts', [target, how]);
    await expect.poll(() => running.output(), { timeout: 20_000, interval: 2 }).toContain('up');
    const began = performance.now();
    if (signal) running.child.kill(signal);
    return { ended: await running.ended, after: performance.now() - began };
  }

  it('ends at once when it exits, though a thread of it waits for the kernel', async () => {
    const { ended, after } = await ends('exit');
    expect(ended).toBe(3);
    expect(after).toBeLessThan(2000);
  });

  it('ends at once on an uncaught error', async () => {
    const { ended, after } = await ends('throw');
    expect(ended).toBe(1);
    expect(after).toBeLessThan(2000);
  });

  it('ends by itself once it has stopped to serve', async () => {
    const { ended, after } = await ends('release');
    expect(ended).toBe(0);
    expect(after).toBeLessThan(2000);
  });

  it('stays while it serves, and ends at once on SIGTERM and SIGKILL', async () => {
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const { ended, after } = await ends('stay', signal);
      expect(ended).toBe(signal);
      expect(after).toBeLessThan(2000);
      await unmount(target);
    }
  });
});
