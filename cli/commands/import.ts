import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { InvalidError, isErrno, NotFoundError } from '../../dataset/errors.ts';
import { withExamples } from '../help.ts';
import { type ImportOptions, runImport } from '../import.ts';
import type { Start } from '../session.ts';

interface Options extends ImportOptions {
  readonly inPlace?: boolean;
}

/** `larder import` */
export function addImport(program: Command, start: Start): void {
  const command = program
    .command('import')
    .summary('make a version from a directory')
    .description(
      'Makes a version from a directory, and prints its id. Importing again stores only what changed, and nothing where nothing did. Files whose size, times and inode are those of the last import are not read again.',
    )
    .argument('<source>', 'a directory')
    .argument('<name>', 'a dataset, made where it is not there, and after @ a branch; main without one')
    .option('-m, --message <text>', 'what the version is')
    .option('-t, --tag <tag>', 'also name the version so')
    .option('--author <name>', 'who makes it (LARDER_AUTHOR; user@host without one)')
    .option('--checksum', 'read every file, also those that look unchanged')
    .option('--in-place', 'refer to the objects of a bucket and copy nothing (not there yet)')
    .action(async (source: string, name: string, options: Options, command: Command) => {
      const session = start(command);
      await runImport(session, await sourceDirectory(source, options), name, options);
    });
  withExamples(command, [
    ["import ./emoji emoji -m 'release 16' --tag v16", 'A first version, or the next one'],
    ['import ./cleaned emoji@cleanup', 'A version on a branch'],
    ['import ./emoji emoji --checksum', 'Trust no time stamp'],
  ]);
}

/** The absolute path of a source that can be imported; what cannot be yet is refused in plain words. */
async function sourceDirectory(source: string, { inPlace }: Options): Promise<string> {
  if (/^[a-z0-9]+:\/\//i.test(source)) {
    throw new InvalidError(`importing from ${source.split('://', 1)[0]}:// is not there yet: give a directory`);
  }
  if (inPlace) {
    throw new InvalidError("'--in-place' is not there yet: without it, the files are copied into the repository");
  }
  const path = resolve(source);
  try {
    if ((await stat(path)).isDirectory()) return path;
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
    throw new NotFoundError(`there is no directory '${source}'`, { cause: error, facts: { source } });
  }
  if (source === '-' || /\.(?:tar|tgz|tar\.\w+)$/i.test(source)) {
    throw new InvalidError(`importing a tar is not there yet: unpack '${source}', and import the directory`);
  }
  throw new InvalidError(`'${source}' is not a directory`, { facts: { source } });
}
