import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { median, percentile } from '../measure.ts';
import { columns, type Report } from '../report.ts';
import type { Bench } from './context.ts';
import { type Kind, type Plugin, startPlugin, type Volume, volumeOf } from './plugin.ts';

/** Calls under way at once: a node that starts after a reboot has as many of its pods' volumes to stage. */
const AT_ONCE = 10;

/** How long nobody calls, while all are staged. */
const IDLE_SECONDS = 20;

/** Until what begins with staging is over: first saves, and the process that made the image. */
const SETTLE_SECONDS = 40;

type Call = Exclude<keyof Volume, 'id' | 'stagingPath' | 'targetPath'>;

/** Many volumes of each kind through the plugin's socket, each call made for all of them before the next one. */
export async function benchLife(bench: Bench): Promise<Report> {
  const cells: string[][] = [];
  for (const kind of ['workspace', 'pinned'] as const) cells.push(...(await lifeOf(bench, kind)));
  const { volumes } = bench.sizes;
  const head = [
    `${volumes.toLocaleString('en-US')} volumes`,
    'calls/s',
    'p50, ms',
    'p99, ms',
    'last tenth to first',
    'processor, ms a call',
    'daemon, MB',
    'all, MB',
  ];
  return { rows: [], table: columns(head, cells) };
}

async function lifeOf(bench: Bench, kind: Kind): Promise<string[][]> {
  const { sizes, scratch, record } = bench;
  const directory = join(scratch, kind);
  mkdirSync(directory);
  await using plugin = await startPlugin(directory, { files: 100 });
  const volumes = Array.from({ length: sizes.volumes }, (_, index) => volumeOf(plugin, `${kind}-${index}`, kind));
  const cells: string[][] = [];
  const memory = () => {
    const { daemon, all } = plugin.memory();
    return [megabytes(daemon), megabytes(all)];
  };
  const kernel = kernelMemory();
  const calls = async (call: Call) => {
    const before = plugin.processorSeconds();
    const { milliseconds, seconds } = await each(volumes, (volume) => volume[call]());
    const processor = (plugin.processorSeconds() - before) / volumes.length;
    const tenth = Math.ceil(milliseconds.length / 10);
    const growth = median(milliseconds.slice(-tenth)) / median(milliseconds.slice(0, tenth));
    const [p50, p99] = [percentile(milliseconds, 0.5), percentile(milliseconds, 0.99)];
    record({ part: 'life', kind, call, volumes: volumes.length, seconds, p50, p99, growth, processor });
    record({ part: 'life', kind, after: call, memory: plugin.memory(), kernel: kernelMemory() - kernel });
    cells.push([
      `${kind}: ${call}`,
      (volumes.length / seconds).toFixed(0),
      p50.toFixed(0),
      p99.toFixed(0),
      growth.toFixed(1),
      (processor * 1000).toFixed(1),
      ...memory(),
    ]);
  };
  for (const call of ['create', 'stage', 'publish', 'stats'] as const) await calls(call);
  const disk = Number(
    // Clones that go while it looks are no failure.
    spawnSync('du', ['-sB1', join(plugin.cache, 'workspaces')], { encoding: 'utf8' }).stdout.split('\t')[0],
  );
  record({ part: 'life', kind, workspacesBytes: disk, kernelBytes: kernelMemory() - kernel });
  cells.push(row(`${kind}: the kernel's memory, MB a volume`, (kernelMemory() - kernel) / 1e6 / volumes.length));
  if (kind === 'workspace') cells.push(row(`${kind}: disk, MB a volume`, disk / 1e6 / volumes.length));
  cells.push([
    ...row(`${kind}: processor while all are staged and nobody calls, %`, await idle(plugin, bench)).slice(0, 6),
    ...memory(),
  ]);
  const seconds = await plugin.restart();
  record({ part: 'life', kind, restartSeconds: seconds, memory: plugin.memory() });
  cells.push([...row(`${kind}: a daemon that starts again, s until it answers`, seconds).slice(0, 6), ...memory()]);
  for (const call of ['unpublish', 'unstage', 'delete'] as const) await calls(call);
  return cells;
}

function row(what: string, value: number): string[] {
  return [what, '', value.toFixed(2), '', '', '', '', ''];
}

async function idle(plugin: Plugin, { record }: Bench): Promise<number> {
  await sleep(SETTLE_SECONDS * 1000);
  const before = plugin.processorSeconds();
  const started = performance.now();
  await sleep(IDLE_SECONDS * 1000);
  const share = (plugin.processorSeconds() - before) / ((performance.now() - started) / 1000);
  record({ part: 'life', idle: share });
  return share * 100;
}

/** Does it for all, some at once. @returns how long each took, in the order in which they began */
async function each<T>(
  items: readonly T[],
  act: (item: T) => Promise<void>,
): Promise<{ readonly milliseconds: number[]; readonly seconds: number }> {
  const milliseconds: number[] = [];
  const began = performance.now();
  let next = 0;
  const worker = async () => {
    for (let index = next++; index < items.length; index = next++) {
      const started = performance.now();
      await act(items[index] as T);
      milliseconds[index] = performance.now() - started;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return { milliseconds, seconds: (performance.now() - began) / 1000 };
}

/** What the kernel holds for itself, in bytes: not the page cache, nor what it can free at once. */
function kernelMemory(): number {
  const text = readFileSync('/proc/meminfo', 'latin1');
  return ['SUnreclaim', 'Percpu', 'KernelStack', 'PageTables']
    .map((name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0) * 1024)
    .reduce((sum, bytes) => sum + bytes);
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}
