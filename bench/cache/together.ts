import { join } from 'node:path';
import { inTurn, median } from '../measure.ts';
import { type Row, rate } from '../report.ts';
import { type Bench, freshNode, readList, warm, writeList } from './context.ts';

const FILE_BYTES = 110_000;
const PROCESSES = 8;

/** Eight processes at once, each reading the whole dataset in an order of its own, as the ranks of a training job on one node do. */
export async function benchTogether(bench: Bench): Promise<Row[]> {
  const { sizes, slow } = bench;
  const { source, stored, what: files } = await bench.images(FILE_BYTES);
  warm(join(bench.server.directory, stored.bucket));
  await using node = await freshNode(bench, { link: slow, stored, name: 'together' });
  const lists = (directory: string, name: string) =>
    Array.from({ length: PROCESSES }, (_, process) => writeList(bench, directory, `${name}-${process}`, process));
  const all = async (files: readonly string[]) =>
    Math.max(...(await Promise.all(files.map((list) => readList(bench, list, 1)))));
  const mounted = lists(node.target, 'together');
  const plain = lists(source, 'together-native');
  const reads = stored.files * PROCESSES;

  await slow.takePassed();
  const cold = await all(mounted);
  const passed = await slow.takePassed();
  await all(plain);
  const warmed = await inTurn(
    Math.max(1, sizes.rounds),
    () => all(mounted),
    () => all(plain),
  );
  bench.record({
    part: 'together',
    files: stored.files,
    bytes: stored.bytes,
    processes: PROCESSES,
    cold,
    passed,
    warmed,
  });
  const what = `${PROCESSES} processes at once, each all of ${files}`;
  return [
    {
      what: `${what}, cold (${slow.name}): what came from the bucket, of the dataset`,
      larder: `${rate(reads, cold, 'files')}, ${(passed.received / 1e6).toFixed(0)} MB`,
      value: passed.received / stored.bytes,
      goal: { atMost: 1.1 },
    },
    {
      what: `${what}, warm`,
      larder: rate(reads, warmed.first, 'files'),
      rival: rate(reads, warmed.second, 'files'),
      rivalName: 'native XFS',
      value: median(warmed.ratios),
      goal: { atLeast: 0.9 },
    },
  ];
}
