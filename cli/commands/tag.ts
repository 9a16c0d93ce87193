import type { Command } from 'commander';
import { shortId } from '../../dataset/digest.ts';
import { InvalidError } from '../../dataset/errors.ts';
import { deleteTag, listTags, resolveName, writeTag } from '../../dataset/refs.ts';
import { NAME_HELP, withExamples } from '../help.ts';
import { ofDataset, printNames, requireDataset, requireTag } from '../names.ts';
import type { Start } from '../session.ts';

/** `larder tag …` */
export function addTag(program: Command, start: Start): void {
  const tag = program
    .command('tag')
    .summary('name versions')
    .description('Names versions. A tag stays where it is, unless it is moved on purpose.');
  addCreate(tag, start);
  addList(tag, start);
  addMove(tag, start);
  addDelete(tag, start);
  withExamples(tag, [
    ['tag create emoji v16', 'Name the head of main v16'],
    ['tag list emoji', 'What names there are'],
  ]);
}

function addCreate(parent: Command, start: Start): void {
  const command = parent
    .command('create')
    .description('Names a version.')
    .argument('<name>', NAME_HELP)
    .argument('<tag>', 'the new name')
    .action(async (name: string, tag: string, _options: object, command: Command) => {
      const session = start(command);
      const repository = await session.openRepository();
      const { dataset, version } = await resolveName(repository, name);
      await writeTag(repository, dataset, tag, { version });
      session.output.document({ dataset, tag, version });
      session.output.line(`${dataset}@${tag} is version ${shortId(version)}`);
    });
  withExamples(command, [
    ['tag create emoji v16', 'Name the head of main'],
    ['tag create emoji@3f2a5c0d9b1e good', 'Name a version by its id'],
  ]);
}

function addList(parent: Command, start: Start): void {
  const command = parent
    .command('list')
    .description("Lists a dataset's tags.")
    .argument('<dataset>', 'a dataset')
    .action(async (dataset: string, _options: object, command: Command) => {
      const session = start(command);
      const repository = await session.openRepository();
      await requireDataset(repository, dataset);
      await printNames(session, repository, 'tag', ofDataset(dataset, await listTags(repository, dataset)));
    });
  withExamples(command, [['tag list emoji', 'The tags of a dataset']]);
}

function addMove(parent: Command, start: Start): void {
  const command = parent
    .command('move')
    .description('Gives a tag to another version. Whoever uses the tag reads other data from then on.')
    .argument('<name>', NAME_HELP)
    .argument('<tag>', 'the tag to move')
    .option('-f, --force', 'needed, because a tag is meant to stay')
    .action(async (name: string, tag: string, options: { readonly force?: boolean }, command: Command) => {
      const session = start(command);
      if (!options.force) {
        throw new InvalidError(`a tag is meant to stay where it is: add --force to move '${tag}' all the same`);
      }
      const repository = await session.openRepository();
      const { dataset, version } = await resolveName(repository, name);
      const { version: before } = await requireTag(repository, dataset, tag);
      await writeTag(repository, dataset, tag, { version, force: true });
      session.output.document({ dataset, tag, version, before });
      session.output.line(`${dataset}@${tag} is version ${shortId(version)}, before it was ${shortId(before)}`);
    });
  withExamples(command, [['tag move emoji@main stable --force', 'Let stable be the head of main']]);
}

function addDelete(parent: Command, start: Start): void {
  const command = parent
    .command('delete')
    .description('Removes a tag. The version stays as long as another name leads to it.')
    .argument('<dataset>', 'a dataset')
    .argument('<tag>', 'the tag to remove')
    .action(async (dataset: string, tag: string, _options: object, command: Command) => {
      const session = start(command);
      const repository = await session.openRepository();
      await deleteTag(repository, dataset, tag);
      session.output.document({ dataset, tag, deleted: true });
      session.output.line(`tag ${tag} of ${dataset} is gone`);
    });
  withExamples(command, [['tag delete emoji draft', 'Remove a tag']]);
}
