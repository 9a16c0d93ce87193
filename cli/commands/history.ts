import type { Command } from 'commander';
import { textOf } from '../../dataset/byte-string.ts';
import { shortId } from '../../dataset/digest.ts';
import { NotFoundError } from '../../dataset/errors.ts';
import { pathHistory } from '../../dataset/history.ts';
import { resolveName } from '../../dataset/refs.ts';
import { entryDocument, subjectOf, versionDocument } from '../describe.ts';
import { formatBytes, formatDate, formatOctal } from '../format.ts';
import { NAME_HELP, withExamples } from '../help.ts';
import type { Start } from '../session.ts';
import { pathArgument } from './files.ts';

/** `larder history` */
export function addHistory(program: Command, start: Start): void {
  const command = program
    .command('history')
    .summary('list the versions that changed a path')
    .description('Lists the versions that added, changed or removed a path, newest first.')
    .argument('<name>', NAME_HELP)
    .argument('<path>', 'a path in the dataset')
    .action(async (name: string, text: string, _options: object, command: Command) => {
      const session = start(command);
      const { output } = session;
      const repository = await session.openRepository();
      const path = pathArgument(text);
      const { version } = await resolveName(repository, name);
      let found = false;
      for await (const { version: at, change, entry } of pathHistory(repository, version, path, session.signal)) {
        found = true;
        output.document({ ...versionDocument(at), change, entry: entry && entryDocument(entry) });
        const what =
          entry === undefined
            ? ''
            : entry.type === 'file'
              ? `  ${formatBytes(entry.size)}, mode ${formatOctal(entry.mode)}`
              : `  ${entry.type}, mode ${formatOctal(entry.mode)}`;
        const subject = subjectOf(at.message);
        output.line(
          `${output.style('yellow', shortId(at.id))} ${formatDate(at.time)} ${change.padEnd(8)}${what}  ${subject}`.trimEnd(),
        );
        await output.drain();
      }
      if (!found) {
        throw new NotFoundError(`no version that leads to ${name} has had the path '${textOf(path)}'`, {
          facts: { path: textOf(path) },
        });
      }
    });
  withExamples(command, [
    ['history emoji img/google/64/1f600.png', 'When one image changed'],
    ['history emoji labels.csv --json', 'The same for a program'],
  ]);
}
