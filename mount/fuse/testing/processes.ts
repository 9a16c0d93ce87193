import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { isErrno } from '../../../dataset/errors.ts';

export interface Running {
  readonly pid: number;
  readonly child: ChildProcess;
  /** What it printed, on both channels, so far. */
  output(): string;
  /** Exit status, or the signal's name. */
  readonly ended: Promise<number | string>;
}

export function start(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Running {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data: Buffer) => {
      output += data.toString('latin1');
    });
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string);
  return { pid: child.pid!, child, output: () => output, ended };
}

/** Starts a TypeScript file beside this one on the Node that runs the tests. */
export function startScript(file: string, args: readonly string[] = [], env: NodeJS.ProcessEnv = {}): Running {
  return start(process.execPath, [fileURLToPath(new URL(file, import.meta.url)), ...args], {
    NODE_OPTIONS: '',
    ...env,
  });
}

/** What a process printed, once it has ended well. */
export async function outputOf(running: Running): Promise<string> {
  const ended = await running.ended;
  if (ended !== 0) throw new Error(`it ended with ${ended}: ${running.output()}`);
  return running.output();
}

/** States of a process's threads, such as `S` or `D`; empty once it is gone. */
export function threadStates(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map((thread) => {
      const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'latin1');
      return stat[stat.lastIndexOf(')') + 2]!;
    });
  } catch (error) {
    if (isErrno(error, 'ENOENT') || isErrno(error, 'ESRCH')) return [];
    throw error;
  }
}
