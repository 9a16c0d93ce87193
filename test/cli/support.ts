import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll } from 'vitest';

export const program = resolve(import.meta.dirname, '..', '..', 'bin', 'larder');

export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface World {
  /** A directory of its own, removed when the tests of the file are over. */
  readonly directory: string;
  readonly env: NodeJS.ProcessEnv;
  /** Runs the program to its end. */
  larder(...args: readonly string[]): Ended;
  /** Runs it, expects that it succeeds, and gives its standard output. */
  ok(...args: readonly string[]): string;
  /** Runs it with `--json`, expects that it succeeds, and gives its documents. */
  documents(...args: readonly string[]): Record<string, unknown>[];
  /** Runs a line of shell in which `larder` is the program. */
  shell(line: string): Ended;
  /** Starts the program; the promise tells how it ended. */
  start(args: readonly string[], more?: NodeJS.ProcessEnv): Started;
}

export interface Started {
  kill(signal: NodeJS.Signals): void;
  /** What it has said so far on standard error. */
  stderr(): string;
  readonly ended: Promise<Ended>;
}

/** A home, a repository, a cache and a runtime directory that no other test sees. */
export function createWorld(): World {
  const directory = mkdtempSync(join(tmpdir(), 'larder-cli-'));
  afterAll(() => {
    // A daemon's mounts outlive it, and so does what a test that failed has left.
    for (const target of mountsBelow(directory)) spawnSync('umount', ['--lazy', target]);
    rmSync(directory, { recursive: true, force: true });
  });
  const { LARDER_TEST_NAMESPACE: _, ...inherited } = process.env;
  const env: NodeJS.ProcessEnv = {
    ...inherited,
    HOME: join(directory, 'home'),
    LARDER_REPOSITORY: join(directory, 'repository'),
    LARDER_CACHE: join(directory, 'cache'),
    LARDER_RUNTIME: join(directory, 'run'),
    LARDER_STATE: join(directory, 'state'),
    LARDER_AUTHOR: 'Ada Lovelace',
    TZ: 'UTC',
  };
  for (const name of [
    'XDG_DATA_HOME',
    'XDG_CACHE_HOME',
    'XDG_RUNTIME_DIR',
    'NO_COLOR',
    'FORCE_COLOR',
    'CSI_ENDPOINT',
  ]) {
    delete env[name];
  }
  const options = { env, cwd: directory, encoding: 'utf8', maxBuffer: 1 << 28 } as const;
  const larder = (...args: readonly string[]): Ended => spawnSync(program, args, options);
  const ok = (...args: readonly string[]): string => {
    const { status, stdout, stderr } = larder(...args);
    if (status !== 0) throw new Error(`larder ${args.join(' ')} ended with ${status}: ${stderr}`);
    return stdout;
  };
  return {
    directory,
    env,
    larder,
    ok,
    documents: (...args) =>
      ok('--json', ...args)
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Record<string, unknown>),
    shell: (line) => spawnSync('bash', ['-c', `larder() { '${program}' "$@"; }\n${line}`], options),
    start: (args, more = {}) => {
      const child = spawn(program, args, { env: { ...env, ...more }, cwd: directory });
      let [stdout, stderr] = ['', ''];
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        stdout += text;
      });
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        stderr += text;
      });
      return {
        kill: (signal) => child.kill(signal),
        stderr: () => stderr,
        ended: new Promise((done, fail) => {
          child.on('error', fail);
          child.on('close', (status) => done({ status, stdout, stderr }));
        }),
      };
    },
  };
}

/** Mount points below `directory`, the last mounted first. */
function mountsBelow(directory: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((target) => target.startsWith(`${directory}/`))
    .reverse();
}
