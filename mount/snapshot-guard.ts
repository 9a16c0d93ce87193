import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno, UnavailableError } from '../dataset/errors.ts';
import { thaw } from '../system/calls.ts';

/**
 * A process that holds filesystems open and thaws them when its standard input ends, which it does when this process does, or when
 * time is up. Ready when this returns; ended, without thawing, when disposed. One is enough for any number of filesystems.
 *
 * @param longestPause in milliseconds; a second later it thaws by itself
 */
export async function startThawGuard(points: readonly string[], longestPause: number): Promise<AsyncDisposable> {
  const script = join(import.meta.dirname, 'thaw-guard.ts');
  const child = spawn(process.execPath, [script, String(longestPause + 1000), ...points], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  const exited = once(child, 'exit');
  // Its end is not awaited where it could not be started.
  exited.catch(() => {});
  try {
    const first = await Promise.race([once(child.stdout!, 'data').then(() => 'ready'), exited.then(() => 'ended')]);
    if (first !== 'ready') throw new UnavailableError('it ended at once');
  } catch (error) {
    throw new UnavailableError(
      `no snapshot of ${points.join(', ')}: the process that would thaw it after a crash cannot be started`,
      { cause: error },
    );
  }
  return {
    async [Symbol.asyncDispose]() {
      child.stdin!.write('done\n');
      await exited;
    },
  };
}

/**
 * Thaws a workspace that a crash left frozen; a daemon calls it at its start for each workspace that it finds mounted.
 * @returns whether it was frozen
 */
export function thawLeftover(at: string): boolean {
  const fd = openSync(at, 'r');
  try {
    return thawIfFrozen(fd);
  } finally {
    closeSync(fd);
  }
}

/** @returns whether it was frozen */
export function thawIfFrozen(filesystem: number): boolean {
  try {
    thaw(filesystem);
    return true;
  } catch (error) {
    if (isErrno(error, 'EINVAL')) return false;
    throw error;
  }
}
