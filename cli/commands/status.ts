import type { Command } from 'commander';
import { shortId } from '../../dataset/digest.ts';
import { formatDate, formatNumberOf } from '../format.ts';
import { withExamples } from '../help.ts';
import { lackLines, readKernelReport } from '../kernel-report.ts';
import { withNode } from '../node.ts';
import type { Start } from '../session.ts';
import { formatTable } from '../table.ts';

/** `larder status` */
export function addStatus(program: Command, start: Start): void {
  const command = program
    .command('status')
    .summary("show this node's daemon and its mounts")
    .description("Shows this node's daemon, its keeper, and what is mounted.")
    .action(async (_options: object, command: Command) => {
      const session = start(command);
      const { output } = session;
      const status = await withNode(session, { start: false, phase: 'Asking' }, (call) => call('status', {}));
      const kernel = await readKernelReport(session.environment);
      output.document({ ...status, ...(kernel !== undefined && { kernel }) });
      output.line(`daemon   process ${status.pid}, since ${formatDate(status.startedAt)}`);
      output.line(
        `keeper   ${status.keeper ? 'running' : output.style('yellow', "not running: a restart of the daemon would fail opens that wait; 'larder keeper' starts it")}`,
      );
      output.line(`cache    ${status.cache}`);
      output.line(`runtime  ${status.runtime}`);
      if (kernel !== undefined) output.line(`kernel   Linux ${kernel.kernel}`);
      for (const line of kernel === undefined ? [] : lackLines(kernel)) output.line(`         ${line}`);
      output.line(`waiting  ${formatNumberOf(status.waiting, 'open')}`);
      output.line(`mounts   ${status.volumes.length === 0 ? 'none' : status.volumes.length}`);
      if (status.volumes.length === 0) return;
      output.line('');
      const rows = status.volumes.map((volume) => [
        volume.directory,
        `${volume.dataset}@${shortId(volume.version)}`,
        volume.kind,
        volume.repository,
      ]);
      for (const line of formatTable(
        [{ title: 'DIRECTORY' }, { title: 'VERSION' }, { title: 'KIND' }, { title: 'REPOSITORY' }],
        rows,
      )) {
        output.line(line);
      }
    });
  withExamples(command, [
    ['status', 'Show the daemon and its mounts'],
    ['status --json', 'The same for a program'],
  ]);
}
