import type { Command } from 'commander';
import type { Amounts, CollectResult, Plan } from '../../dataset/collect.ts';
import { countOption, periodOption } from '../arguments.ts';
import { formatBytes, formatCount, formatDate, formatNumberOf } from '../format.ts';
import { withExamples } from '../help.ts';
import type { Output } from '../output.ts';
import type { Start } from '../session.ts';
import { formatTable } from '../table.ts';

interface Options {
  readonly dryRun?: boolean;
  readonly grace?: number;
  readonly keepLast?: number;
  readonly keepDaily?: number;
  readonly keepWeekly?: number;
  readonly repack: boolean;
}

/** `larder collect` */
export function addCollect(program: Command, start: Start): void {
  const command = program
    .command('collect')
    .summary('free what nothing needs')
    .description(
      'Frees what no branch, tag, volume or snapshot leads to. In two steps: one call condemns it, a call after the grace period deletes what is still not needed, and condemns the next. ' +
        'So let it run once a day, from cron or a timer; each run does what is due, on any machine, beside whatever else uses the repository. What an import has stored stays for the grace period: let ' +
        'it be longer than the longest import. Ancestors of what has a name stay, unless --keep-… thins histories out: then the versions that the rules name stay, and what has a name.',
    )
    .option('-n, --dry-run', 'say what would be condemned, and change nothing')
    .option(
      '--grace <time>',
      'leave alone what is younger, and wait so long with deleting: 90s, 30m, 24h, 7d',
      periodOption,
      86_400_000,
    )
    .option('--keep-last <n>', "keep a branch's newest n versions", countOption)
    .option('--keep-daily <n>', 'keep the newest version of each of the last n days that have one', countOption)
    .option('--keep-weekly <n>', 'keep the newest version of each of the last n weeks that have one', countOption)
    .option('--no-repack', 'leave packs as they are of which less than half is needed')
    .action(async (options: Options, command: Command) => {
      const session = start(command);
      const { output, signal } = session;
      const { dryRun = false, grace, keepLast, keepDaily, keepWeekly, repack } = options;
      const keep = { last: keepLast, daily: keepDaily, weekly: keepWeekly };
      const repository = await session.openRepository();
      const { collect } = await import('../../dataset/collect.ts');
      using progress = output.progress();
      const result = await collect({
        repository,
        grace,
        dryRun,
        repack,
        keep,
        signal,
        onProgress: ({ phase, segments, deleted, bytes }) =>
          phase === 'marking'
            ? progress.update({ phase: 'Marking', files: segments, bytes: 0 })
            : progress.update({ phase: 'Deleting', files: deleted, bytes }),
      });
      progress.erase();
      output.document(documentOf(result, dryRun));
      print(output, result, dryRun);
    });
  withExamples(command, [
    ['collect --dry-run', 'What nothing needs, by kind, with bytes'],
    ['collect', 'What is due now: delete, condemn'],
    [
      'collect --keep-daily 30 --keep-weekly 52',
      'The same; histories keep a version a day for a month, one a week for a year',
    ],
    ['collect --grace 7d', 'Where imports take days'],
  ]);
}

function documentOf({ swept, plan, waiting }: CollectResult, dryRun: boolean): object {
  const due = waiting && new Date(waiting.due).toISOString();
  return {
    dryRun,
    ...(swept && { freedBytes: bytesOf(swept.deleted), deleted: swept.deleted, reprieved: swept.reprieved }),
    ...(plan && { condemnedBytes: bytesOf(plan.condemned), ...plan }),
    ...(waiting && { waiting: { due, bytes: bytesOf(waiting.amounts), amounts: waiting.amounts } }),
  };
}

function print(output: Output, { swept, plan, waiting }: CollectResult, dryRun: boolean): void {
  if (swept !== undefined) {
    const objects = formatNumberOf(objectsOf(swept.deleted), 'object');
    output.line(`freed ${formatBytes(bytesOf(swept.deleted))} in ${objects}`);
    const spared = objectsOf(swept.reprieved);
    if (spared > 0)
      output.line(
        `${formatNumberOf(spared, 'object')} that had been condemned ${spared === 1 ? 'is' : 'are'} needed again, and stayed`,
      );
  }
  if (plan !== undefined) printPlan(output, plan, dryRun);
  if (waiting !== undefined)
    output.line(
      `${formatBytes(bytesOf(waiting.amounts))} in ${formatNumberOf(objectsOf(waiting.amounts), 'object')} can be freed from ${formatDate(new Date(waiting.due))} on: run 'larder collect' then`,
    );
  else if (!dryRun) output.line('nothing waits to be freed');
}

function printPlan(output: Output, { condemned, young, kept, repack }: Plan, dryRun: boolean): void {
  const columns = [
    { title: 'KIND' },
    { title: dryRun ? 'TO FREE' : 'CONDEMNED', align: 'right' },
    { title: 'SIZE', align: 'right' },
    { title: 'TOO YOUNG', align: 'right' },
    { title: 'SIZE', align: 'right' },
    { title: 'NEEDED', align: 'right' },
    { title: 'SIZE', align: 'right' },
  ] as const;
  const kinds = ['versions', 'segments', 'locations', 'packs'] as const;
  const rows = kinds.map((kind) => [
    kind,
    ...[condemned, young, kept].flatMap((amounts) => [
      formatCount(amounts[kind].objects),
      formatBytes(amounts[kind].bytes),
    ]),
  ]);
  for (const line of formatTable(columns, rows)) output.line(line);
  if (repack.packs === 0) return;
  const packs = formatNumberOf(repack.packs, 'pack');
  const sizes = `${formatBytes(repack.liveBytes)} of ${formatBytes(repack.bytes)}`;
  output.line(
    repack.done
      ? `${packs} written anew without what nothing needs: ${sizes}`
      : `${packs} would be written anew without what nothing needs: ${sizes}`,
  );
}

function bytesOf(amounts: Amounts): number {
  return Object.values(amounts).reduce((sum, { bytes }) => sum + bytes, 0);
}

function objectsOf(amounts: Amounts): number {
  return Object.values(amounts).reduce((sum, { objects }) => sum + objects, 0);
}
