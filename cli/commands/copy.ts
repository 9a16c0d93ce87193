import type { Command } from 'commander';
import type { CopyOptions, CopyProgress, CopyResult } from '../../dataset/copy.ts';
import { shortId } from '../../dataset/digest.ts';
import { InvalidError } from '../../dataset/errors.ts';
import { listDatasets, parseDatasetName } from '../../dataset/refs.ts';
import type { Repository } from '../../dataset/repository.ts';
import { countOption } from '../arguments.ts';
import { formatBytes, formatDuration, formatNumberOf } from '../format.ts';
import { NAME_HELP, withExamples } from '../help.ts';
import type { Output } from '../output.ts';
import type { Start } from '../session.ts';

interface Options {
  readonly depth?: number;
  readonly as?: string;
  readonly all?: boolean;
  readonly force?: boolean;
}

/** `larder copy` */
export function addCopy(program: Command, start: Start): void {
  const command = program
    .command('copy')
    .summary('carry versions to another repository')
    .description(
      'Carries a version with its history to another repository, which gets only what it lacks; all ids stay the same. A copy that was stopped goes on where it was. The branch or tag is made there, or moved forward. Files that are references to objects elsewhere stay references.',
    )
    .argument('<name>', `${NAME_HELP}; with --all, a dataset, or the repository alone for all datasets`)
    .argument('[repository]', 'where to: a directory or an s3:// URL')
    .option('-d, --depth <count>', 'only the last so many versions', countOption)
    .option('--as <name>', 'what it is called there: NAME or NAME@BRANCH')
    .option('-a, --all', 'every branch and tag: a mirror, in which names that are gone here stay')
    .option(
      '-f, --force',
      'move a branch or tag there that has gone elsewhere; what it named is lost if nothing else names it',
    )
    .action(async (name: string, location: string | undefined, options: Options, command: Command) => {
      const session = start(command);
      const { output, signal } = session;
      const target = location ?? (options.all ? name : undefined);
      if (target === undefined)
        throw new InvalidError('a copy needs a place to go to: larder copy NAME[@REF] REPOSITORY');
      const from = await session.openRepository();
      const { openRepository } = await import('../../dataset/repository.ts');
      const to = await openRepository(target);
      try {
        const began = performance.now();
        using progress = output.progress();
        const onProgress = ({ phase, versions, totalVersions, bytes }: CopyProgress) => {
          const which =
            totalVersions > 1 ? ` version ${Math.min(versions + 1, totalVersions)} of ${totalVersions}` : '';
          progress.update({ phase: phase === 'comparing' ? 'Comparing' : `Copying${which}`, files: 0, bytes });
        };
        const common = { from, to, depth: options.depth, force: options.force, onProgress, signal };
        const totals = { names: 0, versions: 0, chunks: 0, packs: 0, bytes: 0 };
        for await (const result of copies(common, location === undefined ? undefined : name, options)) {
          progress.erase();
          printResult(output, to, result);
          await output.drain();
          totals.names += 1;
          totals.versions += result.versions;
          totals.chunks += result.sent.chunks;
          totals.packs += result.sent.packs + result.sent.wholePacks;
          totals.bytes += result.sent.packBytes;
        }
        progress.erase();
        const milliseconds = Math.round(performance.now() - began);
        output.document({ summary: { ...totals, milliseconds } });
        const sent =
          totals.chunks === 0 && totals.versions === 0
            ? 'it had all of it already'
            : `sent ${formatNumberOf(totals.versions, 'version')}, ${formatBytes(totals.bytes)} in ${formatNumberOf(totals.packs, 'pack')}`;
        output.line(`${sent}, in ${formatDuration(milliseconds)}`);
      } finally {
        await to.bucket.close();
      }
    });
  withExamples(command, [
    ['copy emoji s3://backup/larder', 'The head of main with its history'],
    ['copy emoji@v16 /mnt/disk --depth 1', 'One version without its history'],
    ['copy emoji@main /mnt/disk --as emoji@upstream', 'Under another name'],
    ['copy emoji s3://backup/larder --all', 'All branches and tags of a dataset'],
    ['copy --all s3://backup/larder', 'A mirror of everything'],
  ]);
}

type Common = Pick<CopyOptions, 'from' | 'to' | 'depth' | 'force' | 'onProgress' | 'signal'>;

/** @param name undefined for all datasets */
async function* copies(common: Common, name: string | undefined, options: Options): AsyncGenerator<CopyResult> {
  const { copyNames, copyVersions } = await import('../../dataset/copy.ts');
  const as = options.as === undefined ? undefined : parseTarget(options.as);
  if (!options.all) {
    const { dataset, ref } = parseDatasetName(name!);
    yield await copyVersions({ ...common, dataset, ref, as });
    return;
  }
  if (name === undefined) {
    if (as !== undefined)
      throw new InvalidError('all datasets cannot have one name: leave --as away, or name a dataset');
    for (const dataset of await listDatasets(common.from)) yield* copyNames({ ...common, dataset });
    return;
  }
  const { dataset, ref } = parseDatasetName(name);
  if (ref !== undefined) throw new InvalidError(`--all copies every branch and tag: leave '@${ref}' away, or --all`);
  yield* copyNames({ ...common, dataset, as });
}

function parseTarget(text: string): { readonly dataset: string; readonly branch?: string } {
  const { dataset, ref } = parseDatasetName(text);
  return { dataset, ...(ref !== undefined && { branch: ref }) };
}

function printResult(output: Output, to: Repository, result: CopyResult): void {
  const { dataset, kind, name, version, outcome, before, versions, sent } = result;
  output.document({ dataset, [kind]: name, version, outcome, before, versions, ...sent, repository: to.location });
  const is = outcome === 'unchanged' ? 'is' : before === undefined ? 'is now' : `was ${shortId(before)}, and is now`;
  output.line(`${dataset}@${name} ${is} version ${shortId(version)} in ${to.location}`);
}
