import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from './corpus.ts';
import { freshXfs } from './filesystem.ts';
import { larderIn } from './larder.ts';
import { inTurn, measure, median } from './measure.ts';
import { type Row, rate } from './report.ts';

const BYTES = 2 ** 30;
const READS = 400_000;
const ROUNDS = 5;

/** One file of 1 GiB, warm: sequential, and random reads of 4 KiB. */
export async function benchLarge(scratch: string, reader: string): Promise<Row[]> {
  using filesystem = freshXfs(scratch, 'large', 8);
  const native = join(filesystem.directory, 'native');
  const target = join(filesystem.directory, 'mounted');
  mkdirSync(native);
  mkdirSync(target);
  const next = randomBytes(3);
  for (let written = 0; written < BYTES; written += 2 ** 24) {
    writeFileSync(join(native, 'shard.bin'), next(2 ** 24), { flag: 'a' });
  }
  await using larder = larderIn(filesystem.directory);
  await larder.run('repository', 'init');
  await larder.run('import', native, 'shards');
  await larder.run('mount', 'shards', target);

  const read = async (mode: string[], file: string) => {
    const { stdout } = await measure([reader, mode[0] as string, file, ...mode.slice(1)]);
    return (JSON.parse(stdout) as { seconds: number }).seconds;
  };
  const rows: Row[] = [];
  const compare = async (what: string, mode: string[], count: number, unit: string) => {
    const ours = () => read(mode, join(target, 'shard.bin'));
    const theirs = () => read(mode, join(native, 'shard.bin'));
    await ours();
    await theirs();
    const result = await inTurn(ROUNDS, ours, theirs);
    rows.push({
      what,
      larder: rate(count, result.first, unit),
      rival: rate(count, result.second, unit),
      rivalName: 'native XFS',
      value: median(result.ratios),
      goal: { atLeast: 0.97 },
    });
  };
  await compare('a 1 GiB file, warm, sequential', ['sequential'], BYTES / 1e6, 'MB');
  await compare('its random 4 KiB reads, warm', ['random', String(READS)], READS, 'reads');
  await larder.run('unmount', target);
  return rows;
}
