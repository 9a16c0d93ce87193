import { type ChildProcess, spawn } from 'node:child_process';
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
 * Two callers at once are harmless: the second daemon finds the cache taken and ends, and the first one answers both.
 */
export async function launchNode({ runtime, cache, ready, timeout = 15_000 }: LaunchOptions): Promise<void> {
  const paths = runtimePaths(runtime);
  mkdirSync(runtime, { recursive: true, mode: 0o700 });
  const environment = { ...process.env, LARDER_RUNTIME: runtime, LARDER_CACHE: cache };
  launch(['keeper'], paths.keeperLog, environment);
  const daemon = launch(['node', 'serve'], paths.log, environment);
  const end = Date.now() + timeout;
  for (let ended = false; Date.now() < end && !ended; ) {
    await sleep(25);
    // Looked at before the question: a daemon that found another one in its place has that one answer.
    ended = daemon.exitCode !== null || daemon.signalCode !== null;
    if (await ready()) return;
  }
  const lastLines = readFileSync(paths.log, 'utf8').trimEnd().split('\n').slice(-2).map(messageOf).join(' | ');
  throw new UnavailableError(`the node's daemon did not start: ${lastLines} (its log is ${paths.log})`, {
    facts: { log: paths.log },
  });
}

/** What a line of a log says; a line of something else, such as Node's own, is what it says. */
function messageOf(line: string): string {
  try {
    return (JSON.parse(line) as { readonly message?: string }).message ?? line;
  } catch {
    return line;
  }
}

function launch(command: readonly string[], logFile: string, env: NodeJS.ProcessEnv): ChildProcess {
  const log = openSync(logFile, 'a', 0o600);
  try {
    const program = [...process.execArgv, join(import.meta.dirname, '..', 'bin', 'larder.mjs')];
    const child = spawn(process.execPath, [...program, ...command], {
      detached: true,
      stdio: ['ignore', log, log],
      cwd: '/',
      env,
    });
    // What went wrong is in the log, and that nothing answers is noticed.
    child.on('error', () => {});
    child.unref();
    return child;
  } finally {
    closeSync(log);
  }
}
