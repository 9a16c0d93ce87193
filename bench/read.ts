import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { shuffledFiles, writeImages } from './corpus.ts';
import { dropCaches, freshXfs } from './filesystem.ts';
import { larderIn } from './larder.ts';
import { inTurn, measure, median } from './measure.ts';
import { type Row, rate } from './report.ts';

const FILES = 20_000;
const FILE_BYTES = 110_000;
const ROUNDS = 5;

/** Small files, open + read + close, on the mount and on the native file system beside it. */
export async function benchRead(scratch: string, reader: string): Promise<Row[]> {
  using filesystem = freshXfs(scratch, 'read', 16);
  const native = join(filesystem.directory, 'native');
  const target = join(filesystem.directory, 'mounted');
  mkdirSync(native);
  mkdirSync(target);
  writeImages(native, FILES, FILE_BYTES);
  await using larder = larderIn(filesystem.directory);
  await larder.run('repository', 'init');
  await larder.run('import', native, 'images');
  await larder.run('mount', 'images', target);
  await larder.run('prefetch', 'images');

  const list = (directory: string, name: string) => {
    const file = join(scratch, `${name}.list`);
    writeFileSync(file, `${shuffledFiles(directory).join('\n')}\n`);
    return file;
  };
  const lists = { native: list(native, 'native'), mounted: list(target, 'mounted') };
  const epoch = async (files: string, readers: number) => {
    const { stdout } = await measure([reader, 'files', files, String(readers)]);
    return (JSON.parse(stdout) as { seconds: number }).seconds;
  };

  const rows: Row[] = [];
  const compare = async (what: string, readers: number, goal: number, prepare: () => void) => {
    if (prepare === nothing) {
      await epoch(lists.native, readers);
      await epoch(lists.mounted, readers);
    }
    const run = (files: string) => async () => {
      prepare();
      return await epoch(files, readers);
    };
    const result = await inTurn(ROUNDS, run(lists.mounted), run(lists.native));
    rows.push({
      what,
      larder: rate(FILES, result.first, 'files'),
      rival: rate(FILES, result.second, 'files'),
      rivalName: 'native XFS',
      value: median(result.ratios),
      goal: { atLeast: goal },
    });
  };
  await compare('20,000 files of 110 KB, warm, 1 reader', 1, 0.85, nothing);
  await compare('20,000 files of 110 KB, warm, 8 readers', 8, 0.9, nothing);
  await compare('20,000 files of 110 KB, page cache dropped, 8 readers', 8, 0.9, dropCaches);
  rows.push({
    what: 'the daemon, resident',
    larder: '',
    value: (await larder.daemonResident()) / 1e6,
    unit: 'MB',
  });
  await larder.run('unmount', target);
  return rows;
}

function nothing(): void {}
