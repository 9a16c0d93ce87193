import { spawn } from 'node:child_process';
import { peakResident } from './processes.ts';

export interface Measured {
  readonly seconds: number;
  /** The largest resident size of the process and its threads, in bytes. */
  readonly residentBytes: number;
  readonly stdout: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly environment?: Record<string, string>;
  /** Exit statuses that are no failure. */
  readonly accept?: readonly number[];
}

/** Runs a command to its end and says how long it took and how large it grew. */
export function measure(command: readonly string[], options: RunOptions = {}): Promise<Measured> {
  const [program, ...args] = command as [string, ...string[]];
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let residentBytes = 0;
    const poll = setInterval(() => {
      if (child.pid !== undefined) residentBytes = Math.max(residentBytes, peakResident(child.pid));
    }, 20);
    const output = { stdout: '', stderr: '' };
    child.stdout.on('data', (data) => {
      output.stdout += data;
    });
    child.stderr.on('data', (data) => {
      output.stderr = (output.stderr + data).slice(-4096);
    });
    child.on('error', reject);
    child.on('close', (code) => {
      clearInterval(poll);
      const seconds = (performance.now() - start) / 1000;
      if (code === 0 || options.accept?.includes(code ?? -1))
        resolve({ seconds, residentBytes, stdout: output.stdout });
      else reject(new Error(`${command.join(' ')} ended with ${code}: ${output.stderr}`));
    });
  });
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] as number;
}

/** The value that this share of all does not exceed: 0.99 for all but one in a hundred. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] as number;
}

/**
 * Two ways of the same work, timed in turn: the machine's speed drifts within minutes, so that only neighbours compare.
 * @returns the median of each, in the unit that they return
 */
export async function inTurn(
  rounds: number,
  first: () => Promise<number>,
  second: () => Promise<number>,
): Promise<{ first: number; second: number; ratios: number[] }> {
  const results: { first: number[]; second: number[] } = { first: [], second: [] };
  for (let round = 0; round < rounds; round += 1) {
    results.first.push(await first());
    results.second.push(await second());
  }
  const ratios = results.first.map((value, index) => (results.second[index] as number) / value);
  return { first: median(results.first), second: median(results.second), ratios };
}
