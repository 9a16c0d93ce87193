import type { Command } from 'commander';
import { shortId } from '../../dataset/digest.ts';
import { UnavailableError } from '../../dataset/errors.ts';
import type { NodeStatus } from '../../node/protocol.ts';
import { formatBytes, formatDate, formatNumberOf } from '../format.ts';
import { withExamples } from '../help.ts';
import { lackLines, readKernelReport } from '../kernel-report.ts';
import { withNode } from '../node.ts';
import type { Output } from '../output.ts';
import type { Start } from '../session.ts';
import { type Column, formatTable } from '../table.ts';

const COLUMNS: readonly Column[] = [
  { title: 'DIRECTORY' },
  { title: 'VERSION' },
  { title: 'KIND' },
  { title: 'REPOSITORY' },
];

/** `larder status` */
export function addStatus(program: Command, start: Start): void {
  const command = program
    .command('status')
    .summary("show this node's daemon and its mounts")
    .description("Shows this node's daemon, its keeper, how well both are, its cache, and what is mounted.")
    .option('--check', 'end with 1 where anything is wrong')
    .action(async (options: { readonly check?: boolean }, command: Command) => {
      const session = start(command);
      const { output } = session;
      const status = await withNode(session, { start: false, phase: 'Asking' }, (call) => call('status', {}));
      const kernel = await readKernelReport(session.environment);
      output.document({ ...status, ...(kernel !== undefined && { kernel }) });
      output.line(`daemon   process ${status.pid}, since ${formatDate(status.startedAt)}`);
      output.line(
        `keeper   ${status.keeper ? 'running' : output.style('yellow', "not running: a restart of the daemon would fail opens that wait; 'larder keeper' starts it")}`,
      );
      for (const line of wellLines(status.health, output)) output.line(line);
      output.line(`cache    ${status.cache}`);
      for (const line of cacheLines(status.state)) output.line(`         ${line}`);
      output.line(`runtime  ${status.runtime}`);
      if (kernel !== undefined) output.line(`kernel   Linux ${kernel.kernel}`);
      for (const line of kernel === undefined ? [] : lackLines(kernel)) output.line(`         ${line}`);
      output.line(`waiting  ${formatNumberOf(status.waiting, 'open')}${queueText(status.state)}`);
      const pending = status.state.snapshots?.pending ?? 0;
      if (pending > 0) output.line(`saving   ${formatNumberOf(pending, 'snapshot')}, on this node only until then`);
      output.line(`mounts   ${status.volumes.length === 0 ? 'none' : status.volumes.length}`);
      if (status.volumes.length > 0) output.line('');
      const rows = status.volumes.map((volume) => [
        volume.directory,
        `${volume.dataset}@${shortId(volume.version)}`,
        volume.kind,
        volume.repository,
      ]);
      if (rows.length > 0) for (const line of formatTable(COLUMNS, rows)) output.line(line);
      for (const volume of status.volumes) if (volume.prefetch) output.line(prefetchLine(volume));
      if (options.check === true) requireHealth(status.health);
    });
  withExamples(command, [
    ['status', 'Show the daemon and its mounts'],
    ['status --check', 'Fail where anything is wrong'],
    ['status --json', 'The same for a program'],
  ]);
}

function wellLines({ ok, checks }: NodeStatus['health'], output: Output): string[] {
  if (ok) return ['health   well'];
  const wrong = checks.filter((check) => !check.ok);
  return wrong.map(({ name, message }) => `${output.style('red', 'wrong')}    ${name}: ${message}`);
}

function prefetchLine({ directory, prefetch }: NodeStatus['volumes'][number]): string {
  const { what, state, files, totalFiles, bytes } = prefetch!;
  const of = totalFiles === undefined ? '' : ` of ${totalFiles}`;
  const how = { fetching: 'fetching', done: 'fetched', partial: 'fetched in part' }[state];
  return `${directory}: ${how} ${what}, ${files}${of} files, ${formatBytes(bytes)}`;
}

function cacheLines({ cache, capacity, streams, neighbours }: NodeStatus['state']): string[] {
  const limit = capacity.limit === undefined ? '' : ` of ${formatBytes(capacity.limit)} that it may take`;
  const lines = [
    `${formatNumberOf(cache.objects, 'object')}, ${formatBytes(cache.bytes)}${limit}`,
    `${formatBytes(cache.diskFreeBytes)} of ${formatBytes(cache.diskBytes)} of the disk free`,
  ];
  if (streams.open > 0) lines.push(`${formatNumberOf(streams.open, 'file')} read while they are fetched`);
  if (neighbours !== undefined) {
    const { nodes, passedOver, self } = neighbours;
    const known = self === undefined ? ', which do not know this one' : '';
    lines.push(`${formatNumberOf(nodes.length, 'neighbour')}${known}, ${passedOver.length} passed over`);
  }
  return lines;
}

/** `, 12 jobs queued, 3 at work, of packs and large files 6 at most`, where there are any. */
function queueText({ hydrator: { queued, running, reads } }: NodeStatus['state']): string {
  const jobs = queued.urgent + queued.next + queued.prefetch;
  return jobs + running === 0
    ? ''
    : `, ${formatNumberOf(jobs, 'job')} queued, ${running} at work, of packs and large files ${reads} at most`;
}

function requireHealth({ ok, checks }: NodeStatus['health']): void {
  if (ok) return;
  const names = checks.filter((check) => !check.ok).map(({ name }) => name);
  throw new UnavailableError(`this node is not well: ${names.join(', ')}`, { facts: { wrong: names.join(', ') } });
}
