import { constants } from 'node:os';
import { CommanderError } from 'commander';
import { type ErrorKind, LarderError } from '../dataset/errors.ts';
import { Interrupted } from './interrupt.ts';

/** What the exit status says. A signal adds 128 plus its number, as shells do. */
export const EXIT = { done: 0, failed: 1, usage: 2, notFound: 3, conflict: 4, damaged: 5 } as const;

const OF_KIND: Readonly<Record<ErrorKind, number>> = {
  'not-found': EXIT.notFound,
  invalid: EXIT.usage,
  conflict: EXIT.conflict,
  unavailable: EXIT.failed,
  corrupt: EXIT.damaged,
};

/** The one place that turns an error into the status that the program ends with. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof LarderError) return OF_KIND[error.kind];
  if (error instanceof Interrupted) return 128 + constants.signals[error.signal];
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
  return EXIT.failed;
}
