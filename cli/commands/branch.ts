import type { Command } from 'commander';
import { shortId } from '../../dataset/digest.ts';
import { InvalidError } from '../../dataset/errors.ts';
import { DEFAULT_BRANCH } from '../../dataset/names.ts';
import { deleteBranch, listBranches, moveBranch, protectBranch, resolveName } from '../../dataset/refs.ts';
import { NAME_HELP, withExamples } from '../help.ts';
import { ofDataset, printNames, requireDataset } from '../names.ts';
import type { Session, Start } from '../session.ts';
import { usesOf } from '../uses.ts';

/** `larder branch …` */
export function addBranch(program: Command, start: Start): void {
  const branch = program
    .command('branch')
    .summary('lines of work')
    .description('Makes, lists and removes branches: names that move with each import or commit to them.');
  addCreate(branch, start);
  addList(branch, start);
  addDelete(branch, start);
  addProtect(branch, start);
  addUnprotect(branch, start);
  withExamples(branch, [
    ['branch create emoji cleanup', 'Branch off the head of main'],
    ['import ./cleaned emoji@cleanup', 'Import to the branch'],
    ['merge emoji @cleanup', 'Bring what it has into main'],
  ]);
}

function addCreate(parent: Command, start: Start): void {
  const command = parent
    .command('create')
    .description('Makes a branch at a version: O(1), nothing is copied.')
    .argument('<name>', NAME_HELP)
    .argument('<branch>', 'the new branch')
    .action(async (name: string, branch: string, _options: object, command: Command) => {
      const session = start(command);
      const repository = await session.openRepository();
      const { dataset, version } = await resolveName(repository, name);
      await moveBranch(repository, dataset, branch, { expect: 'absent', version });
      session.output.document({ dataset, branch, version });
      session.output.line(`${dataset}@${branch} is at version ${shortId(version)}`);
    });
  withExamples(command, [
    ['branch create emoji cleanup', 'Branch off the head of main'],
    ['branch create emoji@v15 fixes-15', 'Branch off a tag'],
  ]);
}

function addList(parent: Command, start: Start): void {
  const command = parent
    .command('list')
    .description("Lists a dataset's branches.")
    .argument('<dataset>', 'a dataset')
    .action(async (dataset: string, _options: object, command: Command) => {
      const session = start(command);
      const repository = await session.openRepository();
      await requireDataset(repository, dataset);
      await printNames(session, repository, 'branch', ofDataset(dataset, await listBranches(repository, dataset)));
    });
  withExamples(command, [['branch list emoji', 'The branches of a dataset']]);
}

function addDelete(parent: Command, start: Start): void {
  const command = parent
    .command('delete')
    .description(
      'Removes a branch. Its versions stay as long as another name leads to them, or a volume uses them. A protected branch is not removed.',
    )
    .argument('<dataset>', 'a dataset')
    .argument('<branch>', 'the branch to remove')
    .option('-f, --force', `also ${DEFAULT_BRANCH}`)
    .action(async (dataset: string, branch: string, options: { readonly force?: boolean }, command: Command) => {
      const session = start(command);
      if (branch === DEFAULT_BRANCH && !options.force) {
        throw new InvalidError(
          `'${DEFAULT_BRANCH}' is what the name '${dataset}' alone means: add --force to remove it all the same, or 'larder delete ${dataset}' to remove the dataset`,
        );
      }
      const repository = await session.openRepository();
      const uses = await usesOf(repository, dataset);
      await deleteBranch(repository, dataset, branch);
      session.output.document({ dataset, branch, deleted: true, ...uses.counts });
      session.output.line(`branch ${branch} of ${dataset} is gone${uses.text}`);
    });
  withExamples(command, [['branch delete emoji cleanup', 'Remove a branch']]);
}

function addProtect(parent: Command, start: Start): void {
  const command = parent
    .command('protect')
    .description(
      "Protects a branch: it then moves only by 'larder merge', and is not removed. For the branch that others rely on: imports go to another one, are looked at, and merged.",
    )
    .argument('<name>', 'a dataset, and after @ the branch; main without one')
    .action(async (name: string, _options: object, command: Command) => {
      await changeProtection(start(command), name, 'merge');
    });
  withExamples(command, [['branch protect emoji@main', 'Let main move by merges only']]);
}

function addUnprotect(parent: Command, start: Start): void {
  const command = parent
    .command('unprotect')
    .description('Lifts the protection of a branch: it moves by imports and commits again, and may be removed.')
    .argument('<name>', 'a dataset, and after @ the branch; main without one')
    .action(async (name: string, _options: object, command: Command) => {
      await changeProtection(start(command), name, undefined);
    });
  withExamples(command, [['branch unprotect emoji@main', 'Let everything move main again']]);
}

async function changeProtection(session: Session, name: string, protect: 'merge' | undefined): Promise<void> {
  const { parseTarget } = await import('../import.ts');
  const { dataset, branch } = parseTarget(name);
  const repository = await session.openRepository();
  await requireDataset(repository, dataset);
  const { version } = await protectBranch(repository, dataset, branch, protect);
  session.output.document({ dataset, branch, version, protected: protect !== undefined });
  session.output.line(
    protect === undefined
      ? `branch ${branch} of ${dataset} is not protected`
      : `branch ${branch} of ${dataset} is protected: it moves only by 'larder merge'`,
  );
}
