import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readSnapshot } from '../../controller/snapshots.ts';
import { openRepository } from '../../dataset/repository.ts';
import { writeImages } from '../corpus.ts';
import { freshXfs } from '../filesystem.ts';
import { median } from '../measure.ts';
import type { Row } from '../report.ts';
import type { Bench } from './context.ts';
import { type Plugin, startPlugin, type Volume, volumeOf } from './plugin.ts';
import { type Load, writeCheckpoint, writeLoad } from './writers.ts';

const FILE_BYTES = 1000;

/** How long writers wait for a snapshot of a live workspace: as it says itself, and as one of them sees it. */
export async function benchPause(bench: Bench): Promise<Row[]> {
  const { files, largeBytes, writeSeconds, rounds } = bench.sizes;
  const filled = largeBytes + files * 8192;
  using disk = freshXfs(bench.scratch, 'disk', Math.ceil((filled * 3) / 2 ** 30) + 4);
  await using plugin = await startPlugin(disk.directory, { files: 100 });
  const volume = volumeOf(plugin, 'live', 'workspace', {
    bytes: Math.ceil(filled * 1.2) + 2 ** 30,
    parameters: { autosave: 'off' },
  });
  await volume.create();
  await volume.stage();
  await volume.publish();
  writeImages(join(volume.targetPath, 'files'), files, FILE_BYTES);
  await writeCheckpoint(bench, join(volume.targetPath, 'large'), { bytes: largeBytes });
  execFileSync('sync');
  const taken: { readonly quiet: Load; readonly busy: Load; readonly cut: Cut; readonly readySeconds: number }[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const quiet = await writeLoad(bench, volume.targetPath, writeSeconds);
    const load = writeLoad(bench, volume.targetPath, writeSeconds);
    await sleep((writeSeconds * 1000) / 3);
    const cut = await takeSnapshot(plugin, volume, `cut-${round}`);
    const [busy, readySeconds] = await Promise.all([load, untilReady(plugin, cut)]);
    await plugin.client.call('DeleteSnapshot', { snapshotId: cut.id });
    bench.record({ part: 'pause', files, largeBytes, quiet, busy, cut, readySeconds });
    taken.push({ quiet, busy, cut, readySeconds });
  }
  await volume.unpublish();
  await volume.unstage();
  const what = `a snapshot of ${files.toLocaleString('en-US')} files and ${(largeBytes / 1e9).toFixed(1)} GB, under load`;
  const of = (value: (one: (typeof taken)[number]) => number) => median(taken.map(value));
  const milliseconds = (what: string, larder: string, value: number): Row => ({ what, larder, value, unit: 'ms' });
  return [
    milliseconds(
      `${what}: pause, as it says`,
      '',
      of(({ cut }) => cut.pauseMilliseconds),
    ),
    milliseconds(
      'the same: the longest that a writer waited for one operation',
      `${of(({ quiet }) => quiet.longest * 1000).toFixed(1)} ms without a snapshot`,
      of(({ busy }) => busy.longest * 1000),
    ),
    milliseconds(
      'the same: until the call is answered',
      '',
      of(({ cut }) => cut.answeredSeconds * 1000),
    ),
    { what: 'the same: until it is ready', larder: '', value: of(({ readySeconds }) => readySeconds), unit: 's' },
    {
      what: 'what the writer did meanwhile, with the snapshot taken and made durable',
      larder: `${Math.round(of(({ busy }) => busy.operations / busy.seconds)).toLocaleString('en-US')} operations/s`,
      rival: Math.round(of(({ quiet }) => quiet.operations / quiet.seconds)).toLocaleString('en-US'),
      rivalName: 'without',
      value: of(({ quiet, busy }) => busy.operations / busy.seconds / (quiet.operations / quiet.seconds)),
    },
  ];
}

interface Cut {
  readonly id: string;
  /** By `performance.now()`. */
  readonly started: number;
  readonly answeredSeconds: number;
  readonly pauseMilliseconds: number;
}

async function takeSnapshot(plugin: Plugin, volume: Volume, name: string): Promise<Cut> {
  const started = performance.now();
  const { snapshot } = await plugin.client.call('CreateSnapshot', { name, sourceVolumeId: volume.id });
  const answeredSeconds = (performance.now() - started) / 1000;
  const repository = await openRepository(plugin.repository);
  try {
    const { id, pauseMilliseconds } = await readSnapshot(repository, snapshot.snapshotId);
    if (pauseMilliseconds === undefined) throw new Error(`the snapshot ${id} of a live workspace tells no pause`);
    return { id, started, answeredSeconds, pauseMilliseconds };
  } finally {
    await repository.bucket.close();
  }
}

/** @returns seconds from the call until it was seen to be ready */
async function untilReady({ client }: Plugin, { id, started }: Cut): Promise<number> {
  while (!(await client.call('GetSnapshot', { snapshotId: id })).snapshot.readyToUse) await sleep(50);
  return (performance.now() - started) / 1000;
}
