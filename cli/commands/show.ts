import type { Command } from 'commander';
import type { Digest } from '../../dataset/digest.ts';
import { type LineageNode, lineage } from '../../dataset/lineage.ts';
import { resolveName } from '../../dataset/refs.ts';
import type { Repository } from '../../dataset/repository.ts';
import { type Origin, readVersion } from '../../dataset/version.ts';
import { messageLines, plainText, versionDocument } from '../describe.ts';
import { formatBytes, formatCount, formatTimestamp } from '../format.ts';
import { NAME_HELP, withExamples } from '../help.ts';
import { lineageDocument, lineageLines, type NamesOf } from '../lineage.ts';
import { namesOfVersions } from '../names.ts';
import type { Session, Start } from '../session.ts';

/** `larder show` */
export function addShow(program: Command, start: Start): void {
  const command = program
    .command('show')
    .summary('show a version')
    .description('Shows a version: its id, who made it, when, from what, and how much it holds.')
    .argument('<name>', NAME_HELP)
    .option('--lineage', 'draw what it was made from, what that was made from, and so on, across datasets')
    .action(async (name: string, options: { readonly lineage?: boolean }, command: Command) => {
      const session = start(command);
      const { output } = session;
      const repository = await session.openRepository();
      const { dataset, version: id } = await resolveName(repository, name);
      if (options.lineage) return await showLineage(session, repository, { dataset, version: id });
      const version = await readVersion(repository, id);
      const names = (await namesOfVersions(repository, dataset)).get(id) ?? [];
      output.document({ dataset, ...versionDocument(version), names });
      const fields: [string, string][] = [
        ['dataset', dataset],
        ['version', output.style('yellow', version.id)],
        ['names', names.join(', ') || 'none'],
        ...version.parents.map((parent): [string, string] => ['parent', parent]),
        ...(version.from ?? []).map((from): [string, string] => ['from', `${plainText(from.dataset)}@${from.version}`]),
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
    ['show models@v3 --lineage', 'Which data trained this model'],
  ]);
}

async function showLineage({ output, signal }: Session, repository: Repository, origin: Origin): Promise<void> {
  const tree = await lineage(repository, origin, { signal });
  const known = new Map<string, ReadonlyMap<Digest, readonly string[]>>();
  const learn = async ({ origin: { dataset }, from }: LineageNode): Promise<void> => {
    if (!known.has(dataset)) known.set(dataset, await namesOfVersions(repository, dataset));
    for (const each of from) await learn(each);
  };
  await learn(tree);
  const namesOf: NamesOf = ({ origin: { dataset, version } }) => known.get(dataset)?.get(version) ?? [];
  output.document({ lineage: lineageDocument(tree, namesOf) });
  for (const line of lineageLines(tree, namesOf, output.style)) output.line(line);
  if (tree.from.length === 0)
    output.note("it does not tell what it was made from: 'larder import --from' and 'larder commit --from' do");
}
