import type { Command } from 'commander';
import { InvalidError } from '../../dataset/errors.ts';
import { deleteDataset, listBranches, listTags } from '../../dataset/refs.ts';
import { formatNumberOf } from '../format.ts';
import { withExamples } from '../help.ts';
import { requireDataset } from '../names.ts';
import type { Start } from '../session.ts';
import { usesOf } from '../uses.ts';

interface Options {
  readonly yes?: boolean;
  readonly force?: boolean;
}

/** `larder delete` */
export function addDelete(program: Command, start: Start): void {
  const command = program
    .command('delete')
    .summary('remove a dataset')
    .description(
      "Removes a dataset: its branches and tags. Versions that volumes or snapshots use stay as long as those do. Others that no name leads to stay in the repository until it is collected, and 'NAME@VERSION' no longer finds them.",
    )
    .argument('<dataset>', 'the dataset to remove')
    .option('-y, --yes', 'remove it; without this, only say what would go')
    .option('-f, --force', 'also where a branch is protected')
    .action(async (dataset: string, options: Options, command: Command) => {
      const session = start(command);
      const { output } = session;
      if (dataset.includes('@')) {
        throw new InvalidError(
          `'${dataset}' names a version, not a dataset: 'larder tag delete' and 'larder branch delete' remove its names`,
        );
      }
      const repository = await session.openRepository();
      await requireDataset(repository, dataset);
      const [branches, tags] = await Promise.all([listBranches(repository, dataset), listTags(repository, dataset)]);
      const what = `${formatNumberOf(branches.length, 'branch', 'branches')} and ${formatNumberOf(tags.length, 'tag')}`;
      const names = { branches: branches.map(({ name }) => name), tags: tags.map(({ name }) => name) };
      const uses = await usesOf(repository, dataset);
      if (!options.yes) {
        throw new InvalidError(`'${dataset}' has ${what}${uses.text}: add --yes to remove them`, {
          facts: { dataset, branches: branches.length, tags: tags.length, ...uses.counts },
        });
      }
      await deleteDataset(repository, dataset, { force: options.force });
      output.document({ dataset, deleted: true, ...names, ...uses.counts });
      output.line(`${dataset} is gone, with ${what}${uses.text}`);
    });
  withExamples(command, [
    ['delete emoji', 'Say what would go'],
    ['delete emoji --yes', 'Remove a dataset'],
  ]);
}
