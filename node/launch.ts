import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { UnavailableError } from '../dataset/errors.ts';
import { runtimePaths } from './paths.ts';

export interface LaunchOptions {
  readonly runtime: string;
  readonly cache: string;
  readonly ready: () => Promise<boolean>;
  /** In milliseconds. */
  readonly timeout?: number;
}

/**
 * Starts the keeper and the daemon as processes of their own, which outlive this one, and waits until the daemon answers.
 * Two callers at once are harmless: the second daemon finds the cache locked and ends.
 */
export async function launchNode({ runtime, cache, ready, timeout = 15_000 }: LaunchOptions): Promise<void> {
  const paths = runtimePaths(runtime);
  mkdirSync(runtime, { recursive: true, mode: 0o700 });
  const environment = { ...process.env, LARDER_RUNTIME: runtime, LARDER_CACHE: cache };
  const log = openSync(paths.log, 'a', 0o600);
  try {
    for (const command of [['keeper'], ['node', 'serve']]) {
      const child = spawn(process.execPath, [join(import.meta.dirname, '..', 'cli', 'main.ts'), ...command], {
        detached: true,
        stdio: ['ignore', log, log],
        cwd: '/',
        env: environment,
      });
      child.on('error', () => {});
      child.unref();
    }
  } finally {
    closeSync(log);
  }
  const end = Date.now() + timeout;
  while (Date.now() < end) {
    if (await ready()) return;
    await sleep(25);
  }
  const lastLines = readFileSync(paths.log, 'utf8').trimEnd().split('\n').slice(-3).join(' | ');
  throw new UnavailableError(
    `the node's daemon did not start within ${timeout / 1000} s; its log ${paths.log} ends: ${lastLines}`,
    {
      facts: { log: paths.log },
    },
  );
}
