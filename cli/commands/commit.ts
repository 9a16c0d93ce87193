import type { Command } from 'commander';
import { InvalidError } from '../../dataset/errors.ts';
import { resolveName } from '../../dataset/refs.ts';
import { collectOption } from '../arguments.ts';
import { withExamples } from '../help.ts';
import type { ImportOptions } from '../import.ts';
import type { Start } from '../session.ts';

/** `larder commit` */
export function addCommit(program: Command, start: Start): void {
  const command = program
    .command('commit')
    .summary('take a plain copy back as a version')
    .description(
      "Makes a version of a directory that 'larder checkout' made, on top of the branch's head, and prints its id. Stores only what changed, and nothing where nothing did.",
    )
    .argument('<dir>', 'the directory')
    .argument('<name>', 'a dataset, and after @ a branch that is there; main without one')
    .option('-m, --message <text>', 'what the version is')
    .option('-t, --tag <tag>', 'also name the version so')
    .option('--author <name>', 'who makes it (LARDER_AUTHOR; user@host without one)')
    .option(
      '--meta <key=value>',
      'metadata of the version, such as accuracy=0.93; may be given several times',
      collectOption,
    )
    .option(
      '--from <name>',
      'a version that it was made from, as NAME[@REF]; may be given several times',
      collectOption,
    )
    .option('--checksum', 'read every file, also those that look unchanged since the last commit of this directory')
    .action(async (dir: string, name: string, options: ImportOptions, command: Command) => {
      const session = start(command);
      const { parseTarget, runImport, sourceDirectory } = await import('../import.ts');
      const target = parseTarget(name);
      const source = await sourceDirectory(dir);
      const repository = await session.openRepository();
      // A commit to a name that was mistyped would make a new dataset or branch.
      const found = await resolveName(repository, `${target.dataset}@${target.branch}`);
      if (found.kind !== 'branch') {
        throw new InvalidError(`'${name}' is a ${found.kind}, not a branch: 'larder branch create' makes one of it`);
      }
      await runImport(session, repository, source, target, options);
    });
  withExamples(command, [
    ["commit ./emoji emoji -m 'labels cleaned'", 'Take changes back to main'],
    ['commit ./emoji emoji@cleanup --tag clean-1', 'To a branch, and name the version'],
    [
      'commit ./run models --from emoji@v16 --meta accuracy=0.93',
      'A model: what it was trained on, and how good it is',
    ],
  ]);
}
