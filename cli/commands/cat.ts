import type { Command } from 'commander';
import { textOf } from '../../dataset/byte-string.ts';
import { InvalidError, NotFoundError } from '../../dataset/errors.ts';
import { findEntry } from '../../dataset/manifest.ts';
import { resolveName } from '../../dataset/refs.ts';
import { readVersion } from '../../dataset/version.ts';
import { NAME_HELP, withExamples } from '../help.ts';
import { bytesFields } from '../output.ts';
import type { Start } from '../session.ts';
import { pathArgument } from './files.ts';

/** `larder cat` */
export function addCat(program: Command, start: Start): void {
  const command = program
    .command('cat')
    .summary('print a file of a version')
    .description('Prints the bytes of files of a version, each verified before it is printed. With --json, in base64.')
    .argument('<name>', NAME_HELP)
    .argument('<path...>', 'paths in the version')
    .action(async (name: string, paths: readonly string[], _options: object, command: Command) => {
      const session = start(command);
      const { output, signal } = session;
      const { readFile } = await import('../../dataset/read-file.ts');
      const repository = await session.openRepository();
      const { version } = await resolveName(repository, name);
      const { root } = await readVersion(repository, version);
      for (const path of paths.map(pathArgument)) {
        const shown = textOf(path);
        const entry = await findEntry(repository, root, path);
        if (entry === undefined) {
          throw new NotFoundError(`${name} has no path '${shown}': 'larder files ${name}' lists what it has`, {
            facts: { path: shown },
          });
        }
        if (entry.type !== 'file') {
          const instead =
            entry.type === 'symlink' ? `it leads to '${textOf(entry.target)}'` : "'larder files' lists it";
          throw new InvalidError(`'${shown}' is a ${entry.type}, not a file: ${instead}`, { facts: { path: shown } });
        }
        let offset = 0;
        for await (const bytes of readFile(repository, entry, { root, signal })) {
          output.document({ ...bytesFields('path', path), offset, dataBase64: bytes.toString('base64') });
          if (!output.json) await output.bytes(bytes);
          offset += bytes.length;
        }
      }
    });
  withExamples(command, [
    ['cat emoji labels.csv', 'Print a file of the head of main'],
    ['cat emoji@v16 img/google/64/1f600.png > grin.png', 'Take one file out'],
  ]);
}
