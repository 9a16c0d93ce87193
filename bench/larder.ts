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

export function larderIn(directory: string): LarderUnderTest {
  const environment = {
    LARDER_REPOSITORY: join(directory, 'repository'),
    LARDER_CACHE: join(directory, 'cache'),
    LARDER_RUNTIME: join(directory, 'runtime'),
    LARDER_STATE: join(directory, 'state'),
  };
  const run = (...args: string[]) => measure([program, ...args], { environment });
  const daemon = async () => (JSON.parse((await run('status', '--json')).stdout) as { pid: number }).pid;
  const stop = async () => {
    for (const name of ['node.pid', 'keeper.pid']) {
      try {
        process.kill(Number(readFileSync(join(environment.LARDER_RUNTIME, name), 'utf8')), 'SIGTERM');
      } catch {
        // It does not run.
      }
    }
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
