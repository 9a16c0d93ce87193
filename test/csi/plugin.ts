import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ServiceError, status } from '@grpc/grpc-js';
import { importDirectory } from '../../dataset/import.ts';
import { initRepository, type Repository } from '../../dataset/repository.ts';
import { UMOUNT, umount } from '../../system/calls.ts';
import { connectCsi } from './client.ts';

/** A whole plugin as it is run: the node's daemon with the controller, its keeper, and a repository for it. */
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
  /** The image files of workspaces, and their records. */
  workspaces(): string[];
  /** The names of volumes' records in the repository. */
  records(): string[];
  log(): string;
  close(): Promise<void>;
}

const MAIN = join(import.meta.dirname, '../../bin/larder.mjs');
const KEEPER = 'keeper';
const DAEMON = 'node serve --controller';

export async function createPlugin(): Promise<TestPlugin> {
  const directory = mkdtempSync(join(tmpdir(), 'larder-csi-'));
  process.env.LARDER_STATE = join(directory, 'state');
  const location = join(directory, 'repository');
  const logFile = join(directory, 'plugin.log');
  mkdirSync(location);
  const repository = await initRepository(location);
  const socket = join(directory, 'csi.sock');
  const children = new Map<string, ChildProcess>();

  /** Starts a command of `larder`; the kernel ends it when this process ends, however that is. */
  function run(...command: string[]): ChildProcess {
    const log = openSync(logFile, 'a');
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', process.execPath, MAIN, ...command], {
      stdio: ['ignore', log, log],
      env: {
        ...process.env,
        LARDER_CACHE: join(directory, 'cache'),
        LARDER_RUNTIME: join(directory, 'runtime'),
        LARDER_REPOSITORY: location,
        LARDER_NODE: 'a-node',
        CSI_ENDPOINT: `unix://${socket}`,
      },
    });
    closeSync(log);
    children.set(command.join(' '), child);
    return child;
  }

  async function end(command: string, signal: NodeJS.Signals): Promise<void> {
    const child = children.get(command);
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, 'exit');
  }

  const plugin: TestPlugin = {
    directory,
    repository,
    socket,

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
      if (!children.has(KEEPER)) run(KEEPER);
      const child = run(...DAEMON.split(' '));
      const client = connectCsi(socket);
      try {
        while (!(await client.call('Probe').then(Boolean, isUnavailable))) {
          if (child.exitCode !== null) throw new Error(`the plugin did not start: ${plugin.log()}`);
          await sleep(20);
        }
      } finally {
        client.close();
      }
    },

    stop: (signal = 'SIGTERM') => end(DAEMON, signal),

    mounts: () => mountedBelow(directory).filter((path) => !path.endsWith('/runtime/ring')),
    workspaces: () => readdirSync(join(directory, 'cache/workspaces')).filter((name) => /\.(xfs|json)$/.test(name)),
    records: () => readdirSync(join(location, 'volumes')),
    log: () => readFileSync(logFile, 'utf8'),

    async close() {
      await plugin.stop();
      await end(KEEPER, 'SIGTERM');
      // The keeper kept it for a daemon that does not come any more.
      if (mountedBelow(directory).length > 0) umount(join(directory, 'runtime/ring'), UMOUNT.detach);
      await repository.bucket.close();
      rmSync(directory, { recursive: true });
    },
  };
  return plugin;
}

function mountedBelow(directory: string): string[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((path) => path.startsWith(`${directory}/`));
}

/** False for a server that is not there yet; anything else is a failure. */
function isUnavailable(error: ServiceError): false {
  if (error.code === status.UNAVAILABLE) return false;
  throw error;
}
