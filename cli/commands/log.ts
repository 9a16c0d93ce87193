import type { Command } from 'commander';
import { shortId } from '../../dataset/digest.ts';
import { log } from '../../dataset/history.ts';
import { metaFilter } from '../../dataset/meta.ts';
import { resolveName } from '../../dataset/refs.ts';
import { collectOption, countOption } from '../arguments.ts';
import { messageLines, plainText, sizeOfVersion, versionDocument, versionLine } from '../describe.ts';
import { formatTimestamp } from '../format.ts';
import { NAME_HELP, withExamples } from '../help.ts';
import { namesOfVersions } from '../names.ts';
import type { Start } from '../session.ts';

interface Options {
  readonly oneline?: boolean;
  readonly number?: number;
  readonly meta?: readonly string[];
}

/** `larder log` */
export function addLog(program: Command, start: Start): void {
  const command = program
    .command('log')
    .summary("list a dataset's versions, newest first")
    .description('Lists the versions that lead to one, newest first.')
    .argument('<name>', NAME_HELP)
    .option('--oneline', 'one line a version')
    .option('-n, --number <count>', 'at most so many versions', countOption)
    .option(
      '--meta <condition>',
      'only versions whose metadata is so: key, key=value, key!=value, or for numbers key>0.9, key>=…, key<…, key<=…; of several, all',
      collectOption,
    )
    .action(async (name: string, options: Options, command: Command) => {
      const session = start(command);
      const { output } = session;
      const isWanted = metaFilter(options.meta ?? []);
      const repository = await session.openRepository();
      const { dataset, version } = await resolveName(repository, name);
      const names = await namesOfVersions(repository, dataset);
      let left = options.number ?? Number.POSITIVE_INFINITY;
      let first = true;
      let ended = 0;
      for await (const each of log(repository, version, session.signal, () => ended++)) {
        if (!isWanted(each.meta)) continue;
        if (left-- <= 0) break;
        const here = names.get(each.id) ?? [];
        output.document({ ...versionDocument(each), names: here });
        if (options.oneline) {
          output.line(versionLine(each, here, (text) => output.style('yellow', text)));
        } else {
          if (!first) output.line('');
          const decoration = here.length > 0 ? ` ${output.style('cyan', `(${here.join(', ')})`)}` : '';
          output.line(`${output.style('yellow', `version ${each.id}`)}${decoration}`);
          if (each.parents.length > 1) output.line(`Merge:   ${each.parents.map(shortId).join(' ')}`);
          output.line(`Author:  ${plainText(each.author)}`);
          output.line(`Date:    ${formatTimestamp(each.time)}`);
          output.line(`Size:    ${sizeOfVersion(each)}`);
          for (const { dataset, version } of each.from ?? [])
            output.line(`From:    ${plainText(dataset)}@${shortId(version)}`);
          const meta = Object.entries(each.meta).map(([key, value]) => `${plainText(key)}=${plainText(value)}`);
          if (meta.length > 0) output.line(`Meta:    ${meta.join(', ')}`);
          if (each.message !== '') {
            output.line('');
            for (const line of messageLines(each.message)) output.line(line === '' ? '' : `    ${line}`);
          }
        }
        first = false;
        await output.drain();
      }
      if (ended > 0 && left > 0)
        output.note('older versions are not in this repository: they were collected, or not copied');
    });
  withExamples(command, [
    ['log emoji', 'The history of main'],
    ['log emoji@v16 --oneline -n 10', 'Ten versions back from a tag, one a line'],
    ["log models --meta 'accuracy>0.9' --meta code=3f2a", 'Versions by their metadata'],
    ['log emoji --json', 'The history for a program, one document a version'],
  ]);
}
