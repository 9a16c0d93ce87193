import type { Command } from 'commander';
import { InvalidError } from '../../dataset/errors.ts';
import { deleteDataset, listBranches, listTags } from '../../dataset/refs.ts';
import { formatNumberOf } from '../format.ts';
import { withExamples } from '../help.ts';
import { requireDataset } from '../names.ts';
import type { Start } from '../session.ts';

/** `larder delete` */
export function addDelete(program: Command, start: Start): void {
  const command = program
    .command('delete')
    .summary('remove a dataset')
    .description(
      "Removes a dataset: its branches and tags. Versions that no other name leads to stay in the repository until it is collected, and 'NAME@VERSION' no longer finds them.",
    )
    .argument('<dataset>', 'the dataset to remove')
    .option('-y, --yes', 'remove it; without this, only say what would go')
    .action(async (dataset: string, options: { readonly yes?: boolean }, command: Command) => {
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
      if (!options.yes) {
        throw new InvalidError(`'${dataset}' has ${what}: add --yes to remove them`, {
          facts: { dataset, branches: branches.length, tags: tags.length },
        });
      }
      await deleteDataset(repository, dataset);
      output.document({ dataset, deleted: true, ...names });
      output.line(`${dataset} is gone, with ${what}`);
    });
  withExamples(command, [
    ['delete emoji', 'Say what would go'],
    ['delete emoji --yes', 'Remove a dataset'],
  ]);
}
