import type { Command } from 'commander';
import { InvalidError } from '../../dataset/errors.ts';
import { withExamples } from '../help.ts';
import type { ImportOptions } from '../import.ts';
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
      const { parseTarget, runImport, sourceDirectory } = await import('../import.ts');
      const target = parseTarget(name);
      if (options.inPlace) {
        throw new InvalidError("'--in-place' is not there yet: without it, the files are copied into the repository");
      }
      const path = await sourceDirectory(source);
      await runImport(session, await session.openRepository(), path, target, options);
    });
  withExamples(command, [
    ["import ./emoji emoji -m 'release 16' --tag v16", 'A first version, or the next one'],
    ['import ./cleaned emoji@cleanup', 'A version on a branch'],
    ['import ./emoji emoji --checksum', 'Trust no time stamp'],
  ]);
}
