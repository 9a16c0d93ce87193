import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Measured, measure } from './measure.ts';

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
  stop(): Promise<void>;
}

/** @param repository where its repository is; below the directory too if not said */
export function larderIn(directory: string, repository = join(directory, 'repository')): LarderUnderTest {
  const environment = {
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
    for (const one of [pid, keeperPid]) if (one !== undefined) process.kill(one, 'SIGTERM');
  };
  return {
    repository: environment.LARDER_REPOSITORY,
    cache: environment.LARDER_CACHE,
    run,
    daemon,
    async daemonResident() {
      const status = readFileSync(`/proc/${await daemon()}/status`, 'utf8');
      return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
