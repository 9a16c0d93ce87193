import { SOURCES } from '../../node/stats-types.ts';
import { formatBytes, formatCount, formatDuration, formatNumberOf } from '../format.ts';
import { cutTo, formatTable } from '../table.ts';
import type { DatasetReport, TopReport } from './report.ts';

/** A report for a person, in lines of at most `width` columns. */
export function topLines(report: TopReport, width = Number.POSITIVE_INFINITY): string[] {
  const { health, state, process } = report;
  const wrong = health.checks.filter(({ ok }) => !ok).map(({ name, message }) => `${name}: ${message}`);
  const { queued, running, bytesInFlight, waiting } = state.hydrator;
  const lines = [
    `${report.at.slice(11, 19)} UTC  up ${formatDuration(report.uptimeSeconds * 1000)}  memory ${formatBytes(process.residentBytes)}  CPU ${Math.round(process.cpuPercent)}%`,
    ...(wrong.length === 0 ? ['health   well'] : wrong.map((text) => `wrong    ${text}`)),
    `cache    ${formatNumberOf(state.cache.objects, 'object')}, ${formatBytes(state.cache.bytes)}; ${formatBytes(state.cache.diskFreeBytes)} of ${formatBytes(state.cache.diskBytes)} of the disk free`,
    `bytes    ${bytesParts(report).join('   ')}`,
    `waiting  ${formatNumberOf(waiting, 'object')}   queued ${queued.urgent} urgent, ${queued.next} next, ${queued.prefetch} prefetch   reading ${running}, ${formatBytes(bytesInFlight)} to come`,
    ...(state.streams.open === 0
      ? []
      : [
          `streams  ${formatNumberOf(state.streams.open, 'file')} open, ${formatBytes(state.streams.diskBytes)} on the disk, ${formatBytes(state.streams.memoryBytes)} in memory`,
        ]),
    ...(report.damaged + report.healed === 0 ? [] : [`damaged  ${report.damaged}, healed ${report.healed}`]),
  ];
  if (report.datasets.length + report.volumes.length > 0) lines.push('', ...datasetLines(report));
  return lines.map((line) => cutTo(line, width));
}

function bytesParts({ fetched, streamedBytesPerSecond, evictedBytesPerSecond }: TopReport): string[] {
  const rates: (readonly [string, number])[] = SOURCES.map((source) => [source, fetched[source].bytesPerSecond]);
  rates.push(['streamed', streamedBytesPerSecond], ['evicted', evictedBytesPerSecond]);
  // A source that a node has nothing to do with is no news.
  return rates
    .filter(([name, rate]) => name === 'bucket' || rate > 0)
    .map(([name, rate]) => `${name} ${perSecond(rate)}`);
}

function datasetLines({ datasets, volumes }: TopReport): string[] {
  const idle = new Set(volumes.map(({ dataset }) => dataset));
  for (const { dataset } of datasets) idle.delete(dataset);
  const mounted = (name: string) =>
    volumes
      .filter(({ dataset }) => dataset === name)
      .map(({ directory }) => directory)
      .join(', ');
  const busiest = [...datasets].sort((a, b) => b.missesPerSecond - a.missesPerSecond);
  return formatTable(
    [
      { title: 'DATASET' },
      // As wide as they ever are: columns that jump cannot be watched.
      { title: 'MISSES/S', align: 'right' },
      { title: 'BYTES/S'.padStart(10), align: 'right' },
      { title: 'WAIT'.padStart(6), align: 'right' },
      { title: '99%'.padStart(6), align: 'right' },
      { title: 'STREAMED', align: 'right' },
      { title: 'FAILED', align: 'right' },
      { title: 'MOUNTED ON' },
    ],
    [
      ...busiest.map((one) => [...datasetCells(one), mounted(one.dataset)]),
      ...[...idle].sort().map((name) => [name, '0', '', '', '', '', '', mounted(name)]),
    ],
  );
}

function datasetCells({ dataset, misses, missesPerSecond, bytesPerSecond, waitSeconds }: DatasetReport): string[] {
  const wait = (seconds: number | undefined) => (seconds === undefined ? '' : formatDuration(seconds * 1000));
  return [
    dataset,
    missesPerSecond > 0 && missesPerSecond < 10 ? missesPerSecond.toFixed(1) : formatCount(missesPerSecond),
    perSecond(bytesPerSecond),
    wait(waitSeconds?.median),
    wait(waitSeconds?.p99),
    formatCount(misses.stream),
    formatCount(misses.failed),
  ];
}

function perSecond(bytes: number): string {
  return `${formatBytes(bytes)}/s`;
}
