import type { Command } from 'commander';
import { diffVersions } from '../../dataset/diff.ts';
import { InvalidError } from '../../dataset/errors.ts';
import { resolveName } from '../../dataset/refs.ts';
import { withRenames } from '../../dataset/renames.ts';
import type { Repository } from '../../dataset/repository.ts';
import { readVersion, type Version } from '../../dataset/version.ts';
import {
  countDifference,
  differenceDocument,
  differenceLine,
  differenceSummary,
  isOnlyDirectoryTime,
  noDifferences,
} from '../difference.ts';
import { formatCount } from '../format.ts';
import { NAME_HELP, withExamples } from '../help.ts';
import type { Start } from '../session.ts';

interface Options {
  readonly summary?: boolean;
  readonly all?: boolean;
  readonly renames: boolean;
}

/** `larder diff` */
export function addDiff(program: Command, start: Start): void {
  const command = program
    .command('diff')
    .summary('what differs between two versions')
    .description(
      'Lists the paths that differ between two versions: A added, D removed, M modified, R renamed (the very same content at another path), T of another type, m the same content with another mode, owner, time or attributes. Reads only what differs of the manifests.',
    )
    .argument('<from>', NAME_HELP)
    .argument(
      '[to]',
      'the other version; @REF for one of the same dataset; without one, <from> is compared with its parent',
    )
    .option('-s, --summary', 'only count')
    .option('-a, --all', 'also directories of which only the time differs')
    .option(
      '--no-renames',
      'show a renamed file as one removed and one added; lists what differs at once, however much it is',
    )
    .action(async (from: string, to: string | undefined, options: Options, command: Command) => {
      const session = start(command);
      const { output, signal } = session;
      const repository = await session.openRepository();
      const [before, after] = await resolvePair(repository, from, to);
      const totals = noDifferences();
      const find = () => diffVersions(repository, before.root, after.root, { signal });
      const found = options.renames
        ? withRenames(find, {
            onLimit: (limit) =>
              output.note(`more than ${formatCount(limit)} files were added and removed: renames are not looked for`),
          })
        : find();
      for await (const difference of found) {
        if (!options.all && isOnlyDirectoryTime(difference)) continue;
        countDifference(totals, difference);
        if (options.summary) continue;
        if (output.json) output.document(differenceDocument(difference));
        else output.line(differenceLine(difference, output.style));
        await output.drain();
      }
      output.document({ summary: { from: before.id, to: after.id, ...totals } });
      output.line(differenceSummary(totals));
    });
  withExamples(command, [
    ['diff emoji@v15 emoji@v16', 'What changed between two tags'],
    ['diff emoji@v15 @v16', 'The same, shorter'],
    ['diff emoji', 'What the last version changed'],
    ['diff emoji@v15 @v16 --summary', 'Only how much'],
  ]);
}

async function resolvePair(repository: Repository, from: string, to: string | undefined): Promise<[Version, Version]> {
  const left = await resolveName(repository, from);
  const first = await readVersion(repository, left.version);
  if (to !== undefined) {
    const right = await resolveName(repository, to.startsWith('@') ? `${left.dataset}${to}` : to);
    return [first, await readVersion(repository, right.version)];
  }
  const [parent] = first.parents;
  if (parent === undefined) {
    throw new InvalidError(`${from} is a first version: there is none before it to compare with`);
  }
  return [await readVersion(repository, parent), first];
}
