import { execFile, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Bench, Stored } from '../cache/context.ts';
import type { Plain } from '../cache/plain.ts';
import type { Link } from '../link.ts';
import { ended, withChildren } from '../processes.ts';

/** A program that mounts what is in a bucket. */
export interface Peer {
  readonly name: string;
  /** Fetches and builds what it needs and what is missing. @returns why it cannot take part here */
  install(): Promise<string | undefined>;
  /** Makes everything ready for `start`, which may take its time: it is not measured. */
  open(place: Place): Promise<OpenPeer>;
}

/** Where a peer works. */
export interface Place {
  readonly bench: Bench;
  /** A directory of its own, on the disk that caches are measured on. */
  readonly directory: string;
  /** The way to the server that is measured. */
  readonly link: Link;
  /** The files as they are: directories `files` and `large`. */
  readonly source: string;
  /** The same as objects in a bucket. */
  readonly plain: Plain;
  /** The same in a repository of Larder's. */
  readonly stored: Stored;
}

export interface OpenPeer extends AsyncDisposable {
  /** Where `files` and `large` are seen. */
  readonly root: string;
  /** The bucket that it reads from. */
  readonly bucket: string;
  /** Mounts, with what the cache holds. */
  start(): Promise<void>;
  /** All processes that work for it, while it is started. */
  processes(): number[];
  /** Unmounts; the cache stays. */
  stop(): Promise<void>;
  /** Empties the cache, while it is stopped. */
  clearCache(): void;
}

const run = promisify(execFile);

/** Where what was built for this benchmark is kept. */
export function keptDirectory(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'larder-bench');
}

/** Installs what is missing, as root where there is apt-get. @param programs as `command=package` @returns what is missing still */
export async function needPrograms(...programs: string[]): Promise<string | undefined> {
  const missing = async () => {
    const absent = [];
    for (const [command, name] of programs.map((pair) => pair.split('=') as [string, string])) {
      if (!(await succeeds('sh', ['-c', 'command -v "$0"', command]))) absent.push({ command, name });
    }
    return absent;
  };
  const packages = (await missing()).map(({ name }) => name);
  if (packages.length === 0) return undefined;
  const options = ['install', '-y', '-qq', '--no-install-recommends'];
  const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  if (process.getuid?.() === 0 && (await succeeds('apt-get', ['update', '-qq']))) {
    // What could not be installed is found missing below.
    await run('apt-get', [...options, ...packages], { env: environment }).catch(() => undefined);
  }
  const still = (await missing()).map(({ command }) => command);
  return still.length === 0 ? undefined : `not installed: ${still.join(', ')}`;
}

export async function succeeds(program: string, args: readonly string[]): Promise<boolean> {
  return await run(program, args).then(
    () => true,
    () => false,
  );
}

export interface Mounter {
  readonly bucket: string;
  /** Of this, `cache` and `mount` are used, and `log`. */
  readonly directory: string;
  /** Stays in the foreground until `mount` is unmounted. */
  command(mount: string, cache: string): readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

/** A peer that is one program that mounts in the foreground. */
export function openMounter({ bucket, directory, command, environment }: Mounter): OpenPeer {
  const root = join(directory, 'mount');
  const cache = join(directory, 'cache');
  for (const each of [root, cache]) mkdirSync(each, { recursive: true });
  let pid: number | undefined;
  const stop = async () => {
    if (pid === undefined) return;
    const processes = withChildren([pid]);
    if (isMounted(root)) await run('umount', [root]).catch(() => run('umount', ['--lazy', root]));
    await ended(processes, 30).catch(async () => {
      for (const each of processes) process.kill(each, 'SIGTERM');
      await ended(processes, 30);
    });
    pid = undefined;
  };
  return {
    root,
    bucket,
    processes: () => (pid === undefined ? [] : withChildren([pid])),
    async start() {
      const [program, ...args] = command(root, cache) as [string, ...string[]];
      const logFile = join(directory, 'log');
      const log = openSync(logFile, 'a');
      const child = spawn(program, args, { env: { ...process.env, ...environment }, stdio: ['ignore', log, log] });
      closeSync(log);
      pid = child.pid;
      const deadline = performance.now() + 30_000;
      while (!isMounted(root)) {
        if (child.exitCode !== null || performance.now() > deadline) {
          throw new Error(`${program} did not mount: ${readFileSync(logFile, 'utf8').slice(-1000)}`);
        }
        await sleep(20);
      }
    },
    stop,
    clearCache() {
      rmSync(cache, { recursive: true, force: true });
      mkdirSync(cache);
    },
    [Symbol.asyncDispose]: stop,
  };
}

function isMounted(directory: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${directory} `);
}
