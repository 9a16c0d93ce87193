import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from '../corpus.ts';
import { freshXfs } from '../filesystem.ts';
import type { Link } from '../link.ts';
import { type Row, rate } from '../report.ts';
import { besideNative } from './beside-native.ts';
import { coldRounds, coldRows, middle } from './cold.ts';
import {
  type Bench,
  dropStored,
  type FreshNode,
  freshNode,
  gibibytesFor,
  readFileBy,
  type Stored,
  storeDataset,
} from './context.ts';

/** What `writeLargeFile` calls its file. */
export const FILE = 'shard.bin';

const COLD_READS = 500;

interface Large {
  readonly link: Link;
  readonly stored: Stored;
  /** In words. */
  readonly what: string;
}

/** One large file: its head and its whole, cold and warm, in sequence and at random. */
export async function benchLargeFile(bench: Bench): Promise<Row[]> {
  const { largeBytes } = bench.sizes;
  using native = freshXfs(bench.scratch, 'native-large', gibibytesFor(largeBytes));
  const source = join(native.directory, 'files');
  writeLargeFile(source, largeBytes);
  const stored = await storeDataset(bench, source);
  const what = `a file of ${(largeBytes / 2 ** 30).toFixed(1)} GiB`;
  const rows: Row[] = [];
  for (const link of [bench.slow, bench.fast]) {
    const first = await firstReads(bench, { link, stored, what });
    await using node = first.node;
    rows.push(...first.rows);
    if (link === bench.fast) rows.push(...(await laterReads(bench, what, source, node)));
  }
  dropStored(bench, stored);
  return rows;
}

/** @returns the last node too, with everything cached */
async function firstReads(
  bench: Bench,
  { link, stored, what }: Large,
): Promise<{ readonly rows: Row[]; readonly node: FreshNode }> {
  const randomOn = async (name: string, reads: number) => {
    await using node = await freshNode(bench, { link, stored, name });
    return await readFileBy(bench, join(node.target, FILE), 'random', reads);
  };
  const { taken, node } = await coldRounds(bench, {
    part: 'large file, cold',
    what,
    link,
    stored,
    read: ({ target }) => readFileBy(bench, join(target, FILE), 'sequential'),
    extra: async (name) => ({
      headSeconds: await randomOn(`${name}-head`, 1),
      randomSeconds: await randomOn(`${name}-random`, COLD_READS),
    }),
  });
  const randomSeconds = middle(taken, (one) => one.randomSeconds);
  const rows: Row[] = [
    ...coldRows(`${what}, cold, sequential`, link, stored, taken),
    {
      what: `its first read, cold, of 4 KiB (${link.name})`,
      larder: '',
      value: middle(taken, (one) => one.headSeconds) * 1000,
      unit: 'ms',
    },
    {
      what: `its random reads of 4 KiB, cold, one after the other (${link.name})`,
      larder: rate(COLD_READS, randomSeconds, 'reads'),
      value: COLD_READS / randomSeconds,
      unit: 'reads/s',
    },
  ];
  return { rows, node };
}

/** All of it is cached: an open is native. */
async function laterReads(bench: Bench, what: string, source: string, { target }: FreshNode): Promise<Row[]> {
  const { largeBytes, randomReads } = bench.sizes;
  const whole = { count: largeBytes / 1e6, unit: 'MB', mode: 'sequential' } as const;
  const rows: Row[] = [];
  for (const { how, count, unit, mode, dropped } of [
    { how: 'warm, sequential', ...whole, dropped: false },
    { how: 'page cache dropped, sequential', ...whole, dropped: true },
    { how: 'random reads of 4 KiB, warm', count: randomReads, unit: 'reads', mode: 'random', dropped: false },
  ] as const) {
    const read = (directory: string) => () => readFileBy(bench, join(directory, FILE), mode, count);
    const row = await besideNative(bench, {
      part: 'large file, cached',
      what: `${what}, ${how}`,
      count,
      unit,
      dropped,
      atLeast: 0.97,
      ours: read(target),
      native: read(source),
    });
    rows.push(row);
  }
  return rows;
}

/** One file of bytes that do not compress. */
export function writeLargeFile(directory: string, bytes: number): void {
  mkdirSync(directory);
  const next = randomBytes(3);
  for (let left = bytes; left > 0; left -= 2 ** 24) {
    writeFileSync(join(directory, FILE), next(Math.min(left, 2 ** 24)), { flag: 'a' });
  }
}
