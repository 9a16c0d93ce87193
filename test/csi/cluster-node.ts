import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ServiceError, status } from '@grpc/grpc-js';
import { UMOUNT, umount } from '../../system/calls.ts';
import { connectCsi } from './client.ts';

type Environment = Readonly<Record<string, string>>;

/** A node as it is run: the daemon, which answers the controller's calls too, its keeper, and the directories of both. */
export interface ClusterNode {
  readonly name: string;
  readonly directory: string;
  readonly cache: string;
  readonly runtime: string;
  readonly socket: string;
  /** The daemon's; undefined while none runs. */
  readonly pid: number | undefined;
  /**
   * Starts the daemon, and the keeper where it does not run; resolves when calls are answered.
   * @param env more of its environment, for this start only
   */
  start(env?: Environment): Promise<void>;
  /** Ends the daemon by this signal; SIGKILL is a crash. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** Resolves to what ended the daemon, when it has ended: a signal, or a status. */
  ended(): Promise<NodeJS.Signals | number>;
  /** Nothing of the node runs until `resume`, while its mounts stay: what pods write goes on. */
  pause(): void;
  resume(): void;
  /**
   * What a machine's crash does: all that runs ends at once, mounts are gone, and so is the runtime directory.
   * @param options.wipe the disk is lost too
   */
  crash(options?: { readonly wipe?: boolean }): Promise<void>;
  /** What is mounted for volumes: everything but the ring. */
  mounts(): string[];
  /** The image files of workspaces, and their records. */
  workspaces(): string[];
  /** All that volumes may leave on a node: mounts, loop devices, and files of the daemon's own that nobody needs once no volume is staged. */
  leftovers(): string[];
  log(): string;
  /** Ends what runs, and unmounts what is left. */
  close(): Promise<void>;
}

export interface ClusterNodeOptions {
  readonly name: string;
  readonly directory: string;
  /** A repository's location. */
  readonly repository: string;
  /** Its cache's directory; below `directory` if not said. */
  readonly cache?: string;
  /** Its environment, each time that it is started. */
  readonly env?: Environment;
}

const MAIN = join(import.meta.dirname, '../../bin/larder.mjs');
const DAEMON = ['node', 'serve', '--controller'];
const KEEPER = ['keeper'];

export function createClusterNode(options: ClusterNodeOptions): ClusterNode {
  const { name, directory, repository, cache = join(directory, 'cache'), env: usual } = options;
  const runtime = join(directory, 'runtime');
  const socket = join(directory, 'csi.sock');
  const logFile = join(directory, 'plugin.log');
  mkdirSync(directory, { recursive: true });
  let daemon: ChildProcess | undefined;
  let keeper: ChildProcess | undefined;

  /** In a process group of its own; the kernel ends it when this process ends, however that is. */
  function run(command: readonly string[], env: Environment = {}): ChildProcess {
    const log = openSync(logFile, 'a');
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', process.execPath, MAIN, ...command], {
      stdio: ['ignore', log, log],
      detached: true,
      env: {
        ...process.env,
        LARDER_CACHE: cache,
        LARDER_RUNTIME: runtime,
        LARDER_STATE: join(directory, 'state'),
        LARDER_REPOSITORY: repository,
        LARDER_NODE: name,
        CSI_ENDPOINT: `unix://${socket}`,
        ...usual,
        ...env,
      },
    });
    closeSync(log);
    return child;
  }

  const isRunning = (child: ChildProcess | undefined): child is ChildProcess =>
    child !== undefined && child.exitCode === null && child.signalCode === null;
  const running = () => [daemon, keeper].filter(isRunning);

  async function end(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
    if (!isRunning(child)) return;
    child.kill(signal);
    await once(child, 'exit');
  }

  /** Each with all that it started. */
  function toGroups(signal: NodeJS.Signals): void {
    for (const { pid } of running()) process.kill(-(pid as number), signal);
  }

  function unmountAll(): void {
    for (const point of mountedBelow(directory, cache).reverse()) umount(point, UMOUNT.detach);
  }

  const node: ClusterNode = {
    name,
    directory,
    cache,
    runtime,
    socket,
    get pid() {
      return isRunning(daemon) ? daemon.pid : undefined;
    },

    async start(env) {
      if (!isRunning(keeper)) keeper = run(KEEPER);
      daemon = run(DAEMON, env);
      const client = connectCsi(socket);
      try {
        while (!(await client.call('Probe').then(Boolean, isUnavailable))) {
          if (!isRunning(daemon)) throw new Error(`node ${name} did not start: ${node.log()}`);
          await sleep(20);
        }
      } finally {
        client.close();
      }
    },

    stop: (signal = 'SIGTERM') => end(daemon, signal),

    async ended() {
      if (daemon === undefined) throw new Error(`node ${name} was never started`);
      if (isRunning(daemon)) await once(daemon, 'exit');
      return (daemon.signalCode ?? daemon.exitCode) as NodeJS.Signals | number;
    },

    pause: () => toGroups('SIGSTOP'),
    resume: () => toGroups('SIGCONT'),

    async crash({ wipe = false } = {}) {
      const ends = running().map((child) => once(child, 'exit'));
      toGroups('SIGKILL');
      await Promise.all(ends);
      unmountAll();
      rmSync(runtime, { recursive: true, force: true });
      if (!wipe) return;
      rmSync(join(directory, 'state'), { recursive: true, force: true });
      // A disk of its own may be mounted there.
      for (const entry of existsSync(cache) ? readdirSync(cache) : [])
        rmSync(join(cache, entry), { recursive: true, force: true });
    },

    mounts: () => mountedBelow(directory, cache).filter((path) => path !== join(runtime, 'ring')),
    workspaces: () => namesIn(join(cache, 'workspaces')).filter((file) => /\.(xfs|json)$/.test(file)),

    leftovers: () => [
      ...node.mounts(),
      ...loopsBelow(cache),
      ...namesIn(join(cache, 'workspaces'), 'workspaces'),
      ...namesIn(join(cache, 'images'), 'images').filter((file) => /\.(tmp|new)$/.test(file)),
      ...['staged', 'workspaces', 'images', 'ephemeral'].flatMap((folder) =>
        namesIn(join(runtime, folder), `runtime/${folder}`),
      ),
    ],

    log: () => readFileSync(logFile, 'utf8'),

    async close() {
      toGroups('SIGCONT');
      await node.stop();
      await end(keeper, 'SIGTERM');
      const orphans = await untilNone(() => processesOf(runtime));
      for (const pid of orphans) process.kill(pid, 'SIGKILL');
      // The keeper kept the ring for a daemon that does not come any more.
      unmountAll();
      if (orphans.length > 0) throw new Error(`node ${name} left processes that go on: ${orphans.join(', ')}`);
    },
  };
  return node;
}

function mountedBelow(...directories: readonly string[]): string[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((path) => directories.some((directory) => path.startsWith(`${directory}/`)));
}

/** Loop devices on files below a directory, also on files that were removed. */
function loopsBelow(directory: string): string[] {
  return readdirSync('/sys/block').flatMap((device) => {
    const file = `/sys/block/${device}/loop/backing_file`;
    if (!existsSync(file)) return [];
    const backing = readFileSync(file, 'utf8').trim();
    return backing.startsWith(`${directory}/`) ? [`/dev/${device} on ${backing}`] : [];
  });
}

function namesIn(directory: string, shown?: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory).map((name) => (shown === undefined ? name : `${shown}/${name}`));
}

/** Processes that were started with this runtime directory and go on. */
function processesOf(runtime: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && environmentOf(pid).includes(`LARDER_RUNTIME=${runtime}`));
}

/** Empty for one that has ended. */
function environmentOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  } catch {
    return [];
  }
}

async function untilNone<T>(look: () => T[]): Promise<T[]> {
  let found = look();
  for (let tries = 0; tries < 100 && found.length > 0; tries += 1) {
    await sleep(20);
    found = look();
  }
  return found;
}

/** False for a server that is not there yet; anything else is a failure. */
function isUnavailable(error: ServiceError): false {
  if (error.code === status.UNAVAILABLE) return false;
  throw error;
}
