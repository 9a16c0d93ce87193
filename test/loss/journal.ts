import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** Says which files are whole: their numbers, a line each, in order. */
export const JOURNAL = 'journal.txt';

/** What the file of this number has. */
export function contentOf(number: number): string {
  return `${number} `.repeat(200);
}

/** A process that writes into a directory as journal-child.ts says. */
export interface JournalWriter {
  /** The number that was written last. */
  last(): number;
  /** When a number was written, in milliseconds since 1970. */
  writtenAt(number: number): number;
  stop(): Promise<void>;
}

export function startJournalWriter(directory: string, pause: number): JournalWriter {
  const child: ChildProcess = spawn(
    'setpriv',
    [
      '--pdeathsig',
      'KILL',
      '--',
      process.execPath,
      join(import.meta.dirname, 'journal-child.ts'),
      directory,
      String(pause),
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const times: number[] = [];
  createInterface(child.stdout!).on('line', (line) => {
    const [number, time] = line.split(' ').map(Number);
    times[number!] = time!;
  });
  return {
    last: () => times.length - 1,
    writtenAt: (number) => times[number] as number,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'close');
    },
  };
}

/**
 * The number that a directory's journal has last; -1 where it has none. What the journal says must be there, each file whole.
 * Errors: one that names what is not.
 */
export function checkJournal(directory: string): number {
  const file = join(directory, JOURNAL);
  if (!existsSync(file)) return -1;
  const text = readFileSync(file, 'utf8');
  // A line that is not whole does not count.
  const numbers = text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .slice(0, -1)
    .map(Number);
  for (const [at, number] of numbers.entries()) {
    if (number !== at) throw new Error(`line ${at} of ${file} is ${number}`);
    const path = join(directory, `${number}.out`);
    if (readFileSync(path, 'utf8') !== contentOf(number)) throw new Error(`${path} is not what was written`);
  }
  return numbers.length - 1;
}
