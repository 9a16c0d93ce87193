import { spawn } from 'node:child_process';
import { hash, randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createWorld, type Started, type World } from '../cli/support.ts';
import type { DigestsRead } from './digest-reader.ts';

/** A version that is mounted and of which nothing is cached. */
export interface ColdVersion {
  readonly target: string;
  readonly files: ReadonlyMap<string, string>;
  /** For `digest-reader.ts`. */
  readonly list: string;
}

export interface CacheWorld {
  readonly world: World;
  readonly objects: string;
  /** @param settings more of the environment of everything that is started */
  begin(settings?: NodeJS.ProcessEnv): void;
  /** Imports a dataset of random files and mounts it. */
  cold(name: string, files: number, bytes: number): ColdVersion;
  /** Starts a reader of all of it; gives what it found. */
  read(version: ColdVersion): Promise<DigestsRead>;
  pids(): { readonly pid: number; readonly keeperPid?: number };
  /** SIGKILL, and waits until it is gone. */
  kill(pid: number, signal?: NodeJS.Signals): Promise<void>;
  startDaemon(settings?: NodeJS.ProcessEnv): Started;
  startKeeper(): Started;
  untilServing(): Promise<void>;
  /** Ends what runs, by its id. */
  end(): Promise<void>;
}

/** To be called where tests are described; the repository is made by `begin`. */
export function createCacheWorld(): CacheWorld {
  const world = createWorld();
  const { directory } = world;
  const reader = join(import.meta.dirname, 'digest-reader.ts');

  const pids = () => JSON.parse(world.ok('--json', 'status')) as { pid: number; keeperPid?: number };
  const kill = async (pid: number, signal: NodeJS.Signals = 'SIGKILL') => {
    process.kill(pid, signal);
    while (isAlive(pid)) await sleep(5);
  };

  return {
    world,
    objects: join(directory, 'cache', 'objects'),

    begin(settings = {}) {
      Object.assign(world.env, settings);
      world.ok('repository', 'init');
    },

    cold(name, files, bytes) {
      const source = join(directory, `${name}-source`);
      const target = join(directory, name);
      for (const folder of [source, target]) mkdirSync(folder);
      const digests = new Map<string, string>();
      for (let at = 0; at < files; at += 1) {
        const content = randomBytes(Math.floor(bytes * (0.5 + Math.random())));
        digests.set(`file-${at}`, hash('sha256', content));
        writeFileSync(join(source, `file-${at}`), content);
      }
      const list = join(directory, `${name}.json`);
      writeFileSync(list, JSON.stringify([...digests]));
      world.ok('import', source, name);
      world.ok('mount', name, target);
      return { target, files: digests, list };
    },

    read: ({ target, list }) =>
      new Promise((resolve, reject) => {
        const child = spawn(process.execPath, [reader, target, list], {
          env: { ...world.env, NODE_OPTIONS: '' },
          stdio: ['ignore', 'pipe', 'inherit'],
        });
        let text = '';
        child.stdout.setEncoding('utf8').on('data', (more: string) => {
          text += more;
        });
        child.once('error', reject);
        child.once('close', (code) => {
          if (code === 0) resolve(JSON.parse(text) as DigestsRead);
          else reject(new Error(`the reader ended with ${code}`));
        });
      }),

    pids,
    kill,
    startDaemon: (settings) => world.start(['node', 'serve'], settings),
    startKeeper: () => world.start(['keeper']),

    async untilServing() {
      for (let tries = 0; world.larder('status').status !== 0; tries += 1) {
        if (tries > 200) throw new Error('the daemon does not answer');
        await sleep(20);
      }
    },

    async end() {
      if (world.larder('status').status !== 0) return;
      const { pid, keeperPid } = pids();
      await kill(pid);
      if (keeperPid !== undefined) await kill(keeperPid);
    },
  };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
