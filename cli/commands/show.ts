import type { Command } from 'commander';
import { resolveName } from '../../dataset/refs.ts';
import { readVersion } from '../../dataset/version.ts';
import { messageLines, plainText, versionDocument } from '../describe.ts';
import { formatBytes, formatCount, formatTimestamp } from '../format.ts';
import { NAME_HELP, withExamples } from '../help.ts';
import { namesOfVersions } from '../names.ts';
import type { Start } from '../session.ts';

/** `larder show` */
export function addShow(program: Command, start: Start): void {
  const command = program
    .command('show')
    .summary('show a version')
    .description('Shows a version: its id, who made it, when, from what, and how much it holds.')
    .argument('<name>', NAME_HELP)
    .action(async (name: string, _options: object, command: Command) => {
      const session = start(command);
      const { output } = session;
      const repository = await session.openRepository();
      const { dataset, version: id } = await resolveName(repository, name);
      const version = await readVersion(repository, id);
      const names = (await namesOfVersions(repository, dataset)).get(id) ?? [];
      output.document({ dataset, ...versionDocument(version), names });
      const fields: [string, string][] = [
        ['dataset', dataset],
        ['version', output.style('yellow', version.id)],
        ['names', names.join(', ') || 'none'],
        ...version.parents.map((parent): [string, string] => ['parent', parent]),
        ['root', version.root],
        ['author', plainText(version.author)],
        ['date', formatTimestamp(version.time)],
        ['entries', formatCount(version.entries)],
        ['size', `${formatBytes(version.bytes)} (${formatCount(version.bytes)} bytes)`],
        ...Object.entries(version.meta).map(([key, value]): [string, string] => [plainText(key), plainText(value)]),
      ];
      for (const [key, value] of fields) output.line(`${key.padEnd(8)} ${value}`);
      if (version.message === '') return;
      output.line('');
      for (const line of messageLines(version.message)) output.line(line === '' ? '' : `    ${line}`);
    });
  withExamples(command, [
    ['show emoji', 'The head of main'],
    ['show emoji@3f2a5c0d9b1e', 'A version by the start of its id'],
  ]);
}
