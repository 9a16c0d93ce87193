import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

/**
 * The small C programs beside this file: what is measured with them costs little itself.
 *
 * `reader` reads files as a training run does; `writer` writes as one does; `fetch` downloads as plainly as can be; `shape` is a link that is
 * slow and far.
 */
export type ProgramName = 'reader' | 'writer' | 'fetch' | 'shape';

/** Compiles a program into `directory`. @returns its path */
export function compileProgram(directory: string, name: ProgramName): string {
  const file = join(directory, name);
  execFileSync('cc', ['-O2', '-pthread', '-o', file, join(import.meta.dirname, `${name}.c`)]);
  return file;
}
