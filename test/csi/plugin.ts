import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { importDirectory } from '../../dataset/import.ts';
import { initRepository, type Repository } from '../../dataset/repository.ts';

/** A whole plugin, node and controller, in a process of its own, and a repository for it. */
export interface TestPlugin {
  readonly directory: string;
  readonly repository: Repository;
  readonly socket: string;
  /** Imports a directory as the next version of a dataset. @returns the version's id */
  importDataset(dataset: string, source: string): Promise<string>;
  start(): Promise<void>;
  /** Ends the process by this signal; SIGKILL is a crash. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** What is mounted for volumes below the plugin's directory: everything but the ring. */
  mounts(): string[];
  /** The image files of workspaces. */
  workspaces(): string[];
  /** The names of volumes' records in the repository. */
  records(): string[];
  log(): string;
  close(): Promise<void>;
}

export async function createPlugin(): Promise<TestPlugin> {
  const directory = mkdtempSync(join(tmpdir(), 'larder-csi-'));
  process.env.LARDER_STATE = join(directory, 'state');
  const location = join(directory, 'repository');
  const logFile = join(directory, 'plugin.log');
  mkdirSync(location);
  const repository = await initRepository(location);
  let child: ChildProcess | undefined;

  const plugin: TestPlugin = {
    directory,
    repository,
    socket: join(directory, 'csi.sock'),

    async importDataset(dataset, source) {
      const { version } = await importDirectory({
        repository,
        source,
        dataset,
        branch: 'main',
        message: 'for a test',
        author: 'a test',
      });
      return version.id;
    },

    async start() {
      const log = openSync(logFile, 'a');
      child = spawn(process.execPath, [join(import.meta.dirname, 'plugin-process.ts'), directory, location], {
        stdio: ['pipe', 'pipe', log],
      });
      closeSync(log);
      const [event] = await Promise.race([once(child.stdout!, 'data'), once(child, 'exit').then(() => [])]);
      if (event === undefined) throw new Error(`the plugin did not start: ${plugin.log()}`);
    },

    async stop(signal = 'SIGTERM') {
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
      child.kill(signal);
      await once(child, 'exit');
    },

    mounts: () =>
      readFileSync('/proc/self/mounts', 'utf8')
        .split('\n')
        .map((line) => line.split(' ')[1] ?? '')
        .filter((path) => path.startsWith(`${directory}/`) && !path.endsWith('/runtime/ring')),
    workspaces: () => readdirSync(join(directory, 'cache/workspaces')),
    records: () => readdirSync(join(location, 'volumes')),
    log: () => readFileSync(logFile, 'utf8'),

    async close() {
      await plugin.stop();
      await repository.bucket.close();
      rmSync(directory, { recursive: true });
    },
  };
  return plugin;
}
