import type { Command } from 'commander';
import type { ByteString } from '../../dataset/byte-string.ts';
import { textOf } from '../../dataset/byte-string.ts';
import { NotFoundError } from '../../dataset/errors.ts';
import { findEntry, readEntries } from '../../dataset/manifest.ts';
import { validatePath } from '../../dataset/path.ts';
import { resolveName } from '../../dataset/refs.ts';
import { readVersion } from '../../dataset/version.ts';
import { entryDocument, entryLine } from '../describe.ts';
import { NAME_HELP, withExamples } from '../help.ts';
import { rawArgument } from '../raw-argument.ts';
import type { Start } from '../session.ts';

/** `larder files` */
export function addFiles(program: Command, start: Start): void {
  const command = program
    .command('files')
    .summary("list a version's files")
    .description("Lists a version's entries in path order, as 'ls -l' does.")
    .argument('<name>', NAME_HELP)
    .option('-p, --prefix <path>', 'only this path and what lies below it')
    .action(async (name: string, options: { readonly prefix?: string }, command: Command) => {
      const session = start(command);
      const { output, signal } = session;
      const repository = await session.openRepository();
      const { version } = await resolveName(repository, name);
      const { root } = await readVersion(repository, version);
      const prefix = options.prefix === undefined ? undefined : pathArgument(options.prefix);
      if (prefix !== undefined && (await findEntry(repository, root, prefix)) === undefined) {
        throw new NotFoundError(`${name} has no path '${textOf(prefix)}': 'larder files ${name}' lists what it has`, {
          facts: { path: textOf(prefix) },
        });
      }
      for await (const batch of readEntries(repository, root, { prefix, signal })) {
        for (const entry of batch) {
          if (output.json) output.document(entryDocument(entry));
          else output.line(entryLine(entry));
        }
        await output.drain();
      }
    });
  withExamples(command, [
    ['files emoji', 'Everything in the head of main'],
    ['files emoji@v16 --prefix img/google/64', 'One directory of a tag'],
    ["files emoji --json | jq -r 'select(.size > 1e6).path'", 'Files over a megabyte'],
  ]);
}

/** A path in a version as a user types it: slashes at either end, and `.`, mean nothing. */
export function pathArgument(text: string): ByteString {
  return pathOfBytes(rawArgument(text));
}

/** As `pathArgument`, of the bytes themselves. */
export function pathOfBytes(bytes: string): ByteString {
  const trimmed = bytes.replace(/^(?:\.?\/+)+|\/+$/g, '');
  return validatePath((trimmed === '.' ? '' : trimmed) as ByteString);
}
