import { spawn } from 'node:child_process';
import { join, resolve } from 'node:path';
import { type Measured, measure } from './measure.ts';
import { ended, peakResident } from './processes.ts';

const program = resolve(import.meta.dirname, '..', 'bin', 'larder');

/** Larder with a repository, a cache and a daemon of its own, all below one directory. */
export interface LarderUnderTest extends AsyncDisposable {
  readonly repository: string;
  readonly cache: string;
  /** Runs one command; `--json` output is in `stdout`. */
  run(...args: string[]): Promise<Measured>;
  /** The daemon's process id, where one runs. */
  daemon(): Promise<number>;
  /** The largest resident size of the daemon since it started, in bytes. */
  daemonResident(): Promise<number>;
  /** Ends the daemon as a crash would; its keeper and its mounts stay. */
  killDaemon(): Promise<void>;
  /** Starts a daemon, and does not wait for it. It ends with `stop`. */
  startDaemon(): void;
  /** Ends daemon and keeper, and waits until they are gone. */
  stop(): Promise<void>;
}

/**
 * @param repository where its repository is; below the directory too if not said
 * @param settings more of its environment
 */
export function larderIn(
  directory: string,
  repository = join(directory, 'repository'),
  settings: Readonly<Record<string, string>> = {},
): LarderUnderTest {
  const environment = {
    ...settings,
    LARDER_REPOSITORY: repository,
    LARDER_CACHE: join(directory, 'cache'),
    LARDER_RUNTIME: join(directory, 'runtime'),
    LARDER_STATE: join(directory, 'state'),
  };
  const run = (...args: string[]) => measure([program, ...args], { environment });
  const daemon = async () => (JSON.parse((await run('status', '--json')).stdout) as { pid: number }).pid;
  const stop = async () => {
    const { stdout } = await measure([program, 'status', '--json'], { environment, accept: [1] });
    if (stdout === '') return;
    const { pid, keeperPid } = JSON.parse(stdout) as { pid: number; keeperPid?: number };
    const running = [pid, keeperPid].filter((one) => one !== undefined);
    for (const one of running) process.kill(one, 'SIGTERM');
    await ended(running);
  };
  return {
    repository: environment.LARDER_REPOSITORY,
    cache: environment.LARDER_CACHE,
    run,
    daemon,
    async daemonResident() {
      return peakResident(await daemon());
    },
    async killDaemon() {
      const pid = await daemon();
      process.kill(pid, 'SIGKILL');
      await ended([pid]);
    },
    startDaemon() {
      const env = { ...process.env, ...environment };
      spawn(program, ['node', 'serve'], { env, stdio: 'ignore', detached: true }).unref();
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
