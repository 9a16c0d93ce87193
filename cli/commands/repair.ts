import type { Command } from 'commander';
import { shortId } from '../../dataset/digest.ts';
import { CorruptError } from '../../dataset/errors.ts';
import type { ChunkSource } from '../../dataset/repair.ts';
import { collectOption } from '../arguments.ts';
import { printDamage } from '../damage.ts';
import { formatBytes, formatDuration, formatNumberOf } from '../format.ts';
import { NAME_HELP, withExamples } from '../help.ts';
import type { Start } from '../session.ts';

interface Options {
  readonly from?: readonly string[];
  readonly fromCache?: boolean;
}

/** `larder repair` */
export function addRepair(program: Command, start: Start): void {
  const command = program
    .command('repair')
    .summary('put back what is damaged or missing')
    .description(
      "Reads everything back, as verify --deep does, and mends what is damaged or missing: from other places in the repository, from another repository that has it (--from), and from the files in this node's cache (--from-cache). Every byte is verified before it is stored. What stays damaged is named, with the files that it affects; the exit status is then 5.",
    )
    .argument('[names...]', `only these: ${NAME_HELP}`)
    .option('--from <repository>', 'another repository; may be given several times', collectOption)
    .option('--from-cache', "the files in this node's cache (LARDER_CACHE)")
    .action(async (names: readonly string[], options: Options, command: Command) => {
      const session = start(command);
      const { output, signal, environment } = session;
      const repository = await session.openRepository();
      const { repairRepository, repositorySource } = await import('../../dataset/repair.ts');
      const { openRepository } = await import('../../dataset/repository.ts');
      await using stack = new AsyncDisposableStack();
      const sources: ChunkSource[] = [];
      if (options.fromCache) {
        const { cacheSource } = await import('../cache-source.ts');
        sources.push(cacheSource(environment.cache));
      }
      for (const location of options.from ?? []) {
        const other = await openRepository(location);
        stack.defer(() => other.bucket.close());
        sources.push(stack.use(repositorySource(other)));
      }
      const began = performance.now();
      using progress = output.progress();
      const { found, restored, healed, removed, remaining } = await repairRepository({
        repository,
        sources,
        ...(names.length > 0 && { names }),
        onProgress: (state) => {
          if (state.phase === 'reading packs') progress.update({ ...state, phase: 'Reading' });
          else progress.update({ phase: 'Checking', files: state.files, bytes: 0 });
        },
        signal,
      });
      progress.erase();
      for (const object of restored) {
        output.document({ object, restored: true });
        output.line(`put back ${object}`);
      }
      for (const pack of removed) {
        output.document({ pack, removed: true });
        output.line(`removed pack ${shortId(pack)}, which was damaged and is needed no more`);
      }
      for (const damage of remaining) printDamage(output, damage);
      const milliseconds = Math.round(performance.now() - began);
      const summary = {
        damaged: found,
        restored: restored.length,
        ...healed,
        removed: removed.length,
        remaining: remaining.length,
        milliseconds,
      };
      output.document({ summary });
      const took = formatDuration(milliseconds);
      if (found === 0) {
        output.line(`nothing is damaged or missing; looked for ${took}`);
        return;
      }
      const stored = healed.fetched + healed.saved;
      output.line(
        `${formatNumberOf(found, 'object')} damaged or missing; stored ${formatNumberOf(stored, 'chunk')} again (${formatBytes(healed.bytes)}, ` +
          `${formatNumberOf(healed.fetched, 'chunk')} from elsewhere), in ${took}`,
      );
      if (remaining.length === 0) return;
      const where =
        sources.length === 0
          ? "say where else it may be: 'larder repair --from REPOSITORY', or --from-cache"
          : `${sources.map(({ name }) => name).join(' and ')} did not have it either: try another copy, or import the files again and repair then`;
      throw new CorruptError(
        `${formatNumberOf(remaining.length, 'object')} still damaged or missing in ${repository.location}; ${where}`,
        { facts: { found, remaining: remaining.length } },
      );
    });
  withExamples(command, [
    ['repair --from s3://backup/larder', 'Put back what another repository has'],
    ['repair --from-cache', "Put back what this node's cache has"],
    ['repair emoji@v16 --from /mnt/copy', 'Only what one version needs'],
  ]);
}
