import type { Command } from 'commander';
import { shortId } from '../../dataset/digest.ts';
import { parseMeta } from '../../dataset/meta.ts';
import { resolveName } from '../../dataset/refs.ts';
import { collectOption, countOption } from '../arguments.ts';
import { formatNumberOf } from '../format.ts';
import { withExamples } from '../help.ts';
import { type ChoiceOptions, ConflictReport, choicesOf, takeOption } from '../merging.ts';
import type { Start } from '../session.ts';
import { takenPath } from './merge.ts';

interface Options extends ChoiceOptions {
  readonly message?: string;
  readonly author?: string;
  readonly meta?: readonly string[];
  readonly parent?: number;
  readonly dryRun?: boolean;
}

/** `larder revert` */
export function addRevert(program: Command, start: Start): void {
  const command = program
    .command('revert')
    .summary('undo what a version changed')
    .description(
      "Makes a version in which what another one changed is as it was before, and what changed since then stays. Paths that were changed again since are conflicts, as in 'larder merge': ours is the branch, theirs the state before. The version itself stays in the history.",
    )
    .argument('<name>', 'a dataset, and after @ the branch to undo it on; main without one')
    .argument('<version>', 'whose change is undone: a branch, a tag or the start of a version id, with or without @')
    .option('-m, --message <text>', 'what the new version is')
    .option('--meta <key=value>', 'metadata of the version, may be given several times', collectOption)
    .option('--author <name>', 'who makes it (LARDER_AUTHOR; user@host without one)')
    .option(
      '--parent <number>',
      'of a merge: undo it towards this parent; 1 is the branch that was merged into',
      countOption,
    )
    .option('--ours', 'leave every path in conflict as it is on the branch')
    .option('--theirs', 'make every path in conflict as it was before the version')
    .option('--take <path=side>', 'take ours or theirs at a path and below it, may be given several times', takeOption)
    .option('-n, --dry-run', 'only say what would change, and what is in conflict')
    .action(async (name: string, text: string, options: Options, command: Command) => {
      const session = start(command);
      const { environment, output, signal } = session;
      const [{ revertVersion }, { parseTarget }] = await Promise.all([
        import('../../dataset/revert.ts'),
        import('../import.ts'),
      ]);
      const target = parseTarget(name);
      const choices = choicesOf(options, takenPath);
      const meta = parseMeta(options.meta ?? []);
      const repository = await session.openRepository();
      const wanted = await resolveName(repository, `${target.dataset}@${text.replace(/^@/, '')}`);
      const report = new ConflictReport(output);
      const result = await revertVersion({
        repository,
        ...target,
        ...choices,
        version: wanted.version,
        parent: options.parent,
        author: options.author ?? environment.author,
        message: options.message,
        meta,
        dryRun: options.dryRun,
        onConflict: (conflict) => report.add(conflict),
        signal,
      }).finally(() => report.end());
      const { outcome, version, reverted, towards, changes, conflicts, stored } = result;
      output.document({
        ...target,
        outcome,
        dryRun: options.dryRun === true,
        version: version?.id ?? null,
        reverted,
        towards,
        changes,
        conflicts,
        ...(stored && { stored }),
      });
      if (version !== undefined) output.line(version.id);
      const where = `${target.dataset}@${target.branch}`;
      const settled = conflicts === 0 ? '' : `, ${formatNumberOf(conflicts, 'conflict')} settled`;
      if (outcome === 'unchanged') output.line(`${where}: nothing of version ${shortId(reverted)} is left to undo`);
      else
        output.line(
          `${where}: version ${shortId(reverted)} ${options.dryRun ? 'would be undone' : 'undone'}, ${formatNumberOf(changes, 'path')} changed${settled}`,
        );
    });
  withExamples(command, [
    ['revert emoji main', 'Undo the last version of main'],
    ['revert emoji@cleanup 3f2a5c0d9b1e --dry-run', 'See what undoing one on a branch would change'],
    ['revert emoji 3f2a5c0d9b1e --parent 1', 'Undo a merge: back to what the branch had'],
  ]);
}
