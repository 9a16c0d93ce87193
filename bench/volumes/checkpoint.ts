import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { freshXfs } from '../filesystem.ts';
import { median } from '../measure.ts';
import { megabytes, type Row, rate } from '../report.ts';
import type { Bench } from './context.ts';
import { packedBytes, untilDurable } from './durable.ts';
import { startPlugin, volumeOf } from './plugin.ts';
import { writeCheckpoint } from './writers.ts';

/** A large file written in sequence into a workspace, beside the file system that the cache is on; then what becomes of it in the repository. */
export async function benchCheckpoint(bench: Bench): Promise<Row[]> {
  const { checkpointBytes: bytes, rounds } = bench.sizes;
  using disk = freshXfs(bench.scratch, 'disk', Math.ceil((bytes * 6) / 2 ** 30) + 4);
  await using plugin = await startPlugin(disk.directory, { files: 100 });
  const capacity = Math.ceil(bytes * 2.2) + 2 ** 30;
  const quiet = volumeOf(plugin, 'quiet', 'workspace', { bytes: capacity, parameters: { autosave: 'off' } });
  const saved = volumeOf(plugin, 'saved', 'workspace', { bytes: capacity });
  for (const volume of [quiet, saved]) {
    await volume.create();
    await volume.stage();
    await volume.publish();
  }
  mkdirSync(join(disk.directory, 'native'));
  const files = {
    native: join(disk.directory, 'native', 'checkpoint'),
    quiet: join(quiet.targetPath, 'checkpoint'),
    saved: join(saved.targetPath, 'checkpoint'),
  };
  const what = `a checkpoint of ${(bytes / 1e9).toFixed(1)} GB`;
  const taken: Record<'native' | 'quiet' | 'saved', number>[] = [];
  const packed = packedBytes(plugin);
  // The first round only takes space on the disk below, so that none has to wait for that later.
  for (let round = 0; round <= rounds; round += 1) {
    const seconds = { native: 0, quiet: 0, saved: 0 };
    // Each is the first one at times: what comes later meets a disk that is still busy.
    const order = (['native', 'quiet', 'saved'] as const).map((_, index, all) => all[(index + round) % 3]!);
    for (const where of order) {
      execFileSync('sync');
      // The last round's is what the saves that follow are of.
      seconds[where] = await writeCheckpoint(bench, files[where]);
      if (where !== 'saved') rmSync(files[where]);
    }
    bench.record({ part: 'checkpoint', round, bytes, ...seconds });
    if (round > 0) taken.push(seconds);
  }
  const against = (where: 'quiet' | 'saved') => median(taken.map((one) => one.native / one[where]));
  const speed = (where: 'native' | 'quiet' | 'saved') =>
    rate(bytes / 1e6, median(taken.map((one) => one[where])), 'MB');
  const native = { rival: speed('native'), rivalName: 'native XFS' };
  const rows: Row[] = [
    {
      what: `${what}, autosave off`,
      larder: speed('quiet'),
      ...native,
      value: against('quiet'),
      goal: { atLeast: 0.95 },
    },
    { what: `${what}, autosave on`, larder: speed('saved'), ...native, value: against('saved') },
  ];
  const first = await untilDurable(plugin, saved, packed);
  bench.record({ part: 'checkpoint, saved', ...first });
  rows.push({
    what: `${what}: until it is in the repository`,
    larder: `${megabytes(first.bytesUploaded)} uploaded, ${first.processor.toFixed(1)} s of processor time`,
    value: first.seconds,
    unit: 's',
  });
  for (const { of, goal } of [
    { of: 'a tenth of it changed', goal: { atMost: 0.2 } },
    { of: 'the same again', goal: { atMost: 0.01 } },
  ]) {
    const since = packedBytes(plugin);
    await writeCheckpoint(bench, files.saved, { generation: 1, tenths: 1 });
    const next = await untilDurable(plugin, saved, since);
    bench.record({ part: 'checkpoint, next', of, ...next });
    rows.push({
      what: `the next one, ${of}: uploaded, of its size`,
      larder: `${megabytes(next.bytesUploaded)}, in the repository after ${next.seconds.toFixed(1)} s`,
      value: next.bytesUploaded / bytes,
      goal,
    });
  }
  for (const volume of [quiet, saved]) {
    await volume.unpublish();
    await volume.unstage();
  }
  return rows;
}
