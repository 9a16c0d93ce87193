import type { Command } from 'commander';
import type { ByteString } from '../../dataset/byte-string.ts';
import { shortId } from '../../dataset/digest.ts';
import { parseMeta } from '../../dataset/meta.ts';
import { type ResolvedName, resolveName } from '../../dataset/refs.ts';
import { collectOption } from '../arguments.ts';
import { formatNumberOf } from '../format.ts';
import { NAME_HELP, withExamples } from '../help.ts';
import { type ChoiceOptions, ConflictReport, choicesOf, takeOption } from '../merging.ts';
import { rawArgument } from '../raw-argument.ts';
import type { Start } from '../session.ts';
import { pathOfBytes } from './files.ts';

interface Options extends ChoiceOptions {
  readonly message?: string;
  readonly author?: string;
  readonly meta?: readonly string[];
  readonly ff: boolean;
  readonly base?: string;
  readonly unrelated?: boolean;
  readonly dryRun?: boolean;
}

/** `larder merge` */
export function addMerge(program: Command, start: Start): void {
  const command = program
    .command('merge')
    .summary('bring the changes of another version into a branch')
    .description(
      'Merges a version into a branch, path by path: what only one side changed since their common ancestor is as that side has it. Paths that both changed differently are conflicts: they are listed, nothing is changed, and the exit status is 4, until it is said whose to take. Where the branch has nothing of its own, it moves to the version, and no new one is made. No file is read.',
    )
    .argument('<name>', 'a dataset, and after @ the branch to merge into; main without one')
    .argument('<from>', `what to merge: @REF for one of the same dataset, or ${NAME_HELP}`)
    .option('-m, --message <text>', 'what the version is; makes one also where the branch could just move')
    .option('--meta <key=value>', 'metadata of the version, may be given several times; as -m', collectOption)
    .option('--author <name>', 'who makes it (LARDER_AUTHOR; user@host without one)')
    .option('--ours', "take the branch's side of every conflict")
    .option('--theirs', 'take the other side of every conflict')
    .option('--take <path=side>', 'take ours or theirs at a path and below it, may be given several times', takeOption)
    .option('--no-ff', 'make a version also where the branch could just move')
    .option('--base <ref>', 'what both are compared with, in place of their common ancestor: @REF or NAME[@REF]')
    .option('--unrelated', 'merge what has no common ancestor as if both had begun from nothing')
    .option('-n, --dry-run', 'only say what would change, and what is in conflict')
    .action(async (name: string, from: string, options: Options, command: Command) => {
      const session = start(command);
      const { environment, output, signal } = session;
      const [{ mergeVersions }, { parseTarget }] = await Promise.all([
        import('../../dataset/merge.ts'),
        import('../import.ts'),
      ]);
      const target = parseTarget(name);
      const choices = choicesOf(options, takenPath);
      const meta = parseMeta(options.meta ?? []);
      const repository = await session.openRepository();
      const named = (text: string) => (text.startsWith('@') ? `${target.dataset}${text}` : text);
      const theirs = await resolveName(repository, named(from));
      const base = options.base === undefined ? undefined : await resolveName(repository, named(options.base));
      const report = new ConflictReport(output);
      using progress = output.progress();
      const result = await mergeVersions({
        repository,
        ...target,
        ...choices,
        theirs: theirs.version,
        base: base?.version,
        unrelated: options.unrelated,
        fastForward: options.ff && options.message === undefined && options.meta === undefined,
        author: options.author ?? environment.author,
        message: options.message ?? `Merge ${theirs.dataset}@${refText(theirs)}`,
        meta,
        dryRun: options.dryRun,
        onConflict: (conflict) => report.add(conflict),
        onProgress: ({ changes }) => progress.update({ phase: 'Comparing', files: changes, bytes: 0 }),
        signal,
      }).finally(() => {
        progress.erase();
        report.end();
      });
      const { outcome, version, ours, bases, changes, conflicts, stored } = result;
      output.document({
        ...target,
        outcome,
        dryRun: options.dryRun === true,
        version: version?.id ?? null,
        ours,
        theirs: theirs.version,
        bases,
        changes,
        conflicts,
        ...(stored && { stored }),
      });
      if (version !== undefined) output.line(version.id);
      const where = `${target.dataset}@${target.branch}`;
      const other = `${theirs.dataset}@${refText(theirs)}`;
      if (outcome === 'up-to-date') output.line(`${where}: has all of ${other} already`);
      else if (outcome === 'fast-forward')
        output.line(`${where}: ${options.dryRun ? 'would move' : 'moved'} on to ${other}`);
      else {
        const settled = conflicts === 0 ? '' : `, ${formatNumberOf(conflicts, 'conflict')} settled`;
        const verb = options.dryRun ? 'would be merged' : 'merged';
        output.line(`${where}: ${other} ${verb}, ${formatNumberOf(changes, 'path')} changed here${settled}`);
      }
    });
  withExamples(command, [
    ['merge emoji @cleanup', 'Bring the branch cleanup into main'],
    ['merge emoji @cleanup --dry-run', 'See what would change, and what is in conflict'],
    ['merge emoji @cleanup --theirs --take labels.csv=ours', 'Settle conflicts'],
    ["merge emoji@v17 icons@main -m 'icons, too'", 'Bring in what another dataset has'],
  ]);
}

/** The path of `PATH=ours`: what comes before the last '='. */
export function takenPath(text: string): ByteString {
  const bytes = rawArgument(text);
  return pathOfBytes(bytes.slice(0, bytes.lastIndexOf('=')));
}

function refText({ ref, kind, version }: ResolvedName): string {
  return kind === 'version' ? shortId(version) : ref;
}
