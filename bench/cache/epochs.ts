import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { shuffledFiles } from '../corpus.ts';
import type { Link } from '../link.ts';
import { type Row, rate } from '../report.ts';
import { besideNative } from './beside-native.ts';
import { coldRounds, coldRows, middle } from './cold.ts';
import { type Bench, directoryBytes, type FreshNode, type Images, readList, writeList } from './context.ts';
import { fetchAll } from './fetch.ts';
import { type Plain, storePlain } from './plain.ts';

const READERS = 8;

/** Sizes of files, and how many times as fast as one GET a file the first epoch should be. */
const KINDS = [
  { fileBytes: 110_000, timesOneByOne: 5 },
  { fileBytes: 10_000, timesOneByOne: 20 },
] as const;

/** Small files: the first epoch, cold and shuffled, and the second beside the native file system. */
export async function benchEpochs(bench: Bench): Promise<Row[]> {
  const rows: Row[] = [];
  for (const { fileBytes, timesOneByOne } of KINDS) {
    const images = await bench.images(fileBytes);
    const plain = await storePlain(bench, images.source, shuffledFiles(images.source).slice(0, bench.sizes.oneByOne));
    for (const link of [bench.slow, bench.fast]) {
      const first = await firstEpoch(bench, { images, link, plain, timesOneByOne });
      await using node = first.node;
      rows.push(...first.rows);
      if (link === bench.fast) rows.push(...(await laterEpochs(bench, images, node)));
    }
    rmSync(join(bench.server.directory, plain.bucket), { recursive: true });
  }
  return rows;
}

interface First {
  readonly images: Images;
  readonly link: Link;
  readonly plain: Plain;
  readonly timesOneByOne: number;
}

/** @returns the last node too, with everything cached */
async function firstEpoch(
  bench: Bench,
  { images: { stored, what }, link, plain, timesOneByOne }: First,
): Promise<{ readonly rows: Row[]; readonly node: FreshNode }> {
  const { scratch, programs } = bench;
  const { taken, node } = await coldRounds(bench, {
    part: 'first epoch',
    what,
    link,
    stored,
    read: ({ target }) => readList(bench, writeList(bench, target, 'first'), READERS),
    async extra() {
      const { fetch } = programs;
      const { operations, seconds } = await fetchAll({
        scratch,
        fetch,
        link,
        paths: plain.paths,
        connections: READERS,
      });
      return { oneByOneFilesPerSecond: operations / seconds };
    },
  });
  const requests = middle(taken, (one) => one.passed.get);
  const rows: Row[] = [
    ...coldRows(`${what}, first epoch, shuffled, ${READERS} readers`, link, stored, taken),
    {
      what: `the same, beside one GET a file (${link.name})`,
      larder: rate(
        stored.files,
        middle(taken, (one) => one.seconds),
        'files',
      ),
      rival: rate(
        middle(taken, (one) => one.oneByOneFilesPerSecond),
        1,
        'files',
      ),
      rivalName: `${READERS} connections`,
      value: middle(taken, (one) => stored.files / one.seconds / one.oneByOneFilesPerSecond),
      // Where the link's rate is the limit, no one can be so many times faster.
      ...(link.shape.bytesPerSecond === 0 && { goal: { atLeast: timesOneByOne } }),
    },
    {
      what: `its requests for a thousand files (${link.name})`,
      larder: `${requests} in all`,
      value: (requests / stored.files) * 1000,
      unit: 'requests',
    },
  ];
  return { rows, node };
}

/** All is cached: beside the directory that it was imported from. */
async function laterEpochs(bench: Bench, { source, what }: Images, node: FreshNode): Promise<Row[]> {
  const lists = { ours: writeList(bench, node.target, 'ours'), native: writeList(bench, source, 'native') };
  const rows: Row[] = [];
  for (const { how, readers, dropped, atLeast } of [
    { how: 'warm, 1 reader', readers: 1, dropped: false, atLeast: 0.85 },
    { how: `warm, ${READERS} readers`, readers: READERS, dropped: false, atLeast: 0.9 },
    { how: `page cache dropped, ${READERS} readers`, readers: READERS, dropped: true, atLeast: 0.9 },
  ]) {
    const row = await besideNative(bench, {
      part: 'second epoch',
      what: `${what}, second epoch, ${how}`,
      count: bench.sizes.files,
      unit: 'files',
      dropped,
      atLeast,
      ours: () => readList(bench, lists.ours, readers),
      native: () => readList(bench, lists.native, readers),
    });
    rows.push(row);
  }
  bench.record({ part: 'cache on disk', what, bytes: directoryBytes(node.larder.cache) });
  return rows;
}
