import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from '../corpus.ts';
import { dropCaches, freshXfs } from '../filesystem.ts';
import { inTurn, measure, median } from '../measure.ts';
import { forgetPeak, peakResident, processorSeconds } from '../processes.ts';
import { type Row, rate } from '../report.ts';
import { type Bench, dropStored, freshNode, gibibytesFor, storeDataset, warm } from './context.ts';
import { downloadPacks } from './fetch.ts';

/** What `writeLargeFile` calls its file. */
export const FILE = 'shard.bin';
const COLD_READS = 500;

interface Cold {
  readonly limitSeconds: number;
  readonly headSeconds: number;
  readonly coldRandomSeconds: number;
  readonly seconds: number;
  readonly processorSeconds: number;
  readonly peakResidentBytes: number;
}

/** One large file: its head and its whole, cold and warm, in sequence and at random. */
export async function benchLargeFile(bench: Bench): Promise<Row[]> {
  const { scratch, sizes, programs } = bench;
  using native = freshXfs(scratch, 'native-large', gibibytesFor(sizes.largeBytes));
  const source = join(native.directory, 'files');
  writeLargeFile(source, sizes.largeBytes);
  const stored = await storeDataset(bench, source);
  const size = `${(sizes.largeBytes / 2 ** 30).toFixed(1)} GiB`;
  const read = async (file: string, ...mode: [string, ...string[]]) => {
    const { stdout } = await measure([programs.reader, mode[0], file, ...mode.slice(1)]);
    return (JSON.parse(stdout) as { seconds: number }).seconds;
  };
  const rows: Row[] = [];
  for (const link of [bench.slow, bench.fast]) {
    const taken: Cold[] = [];
    for (let round = 0; round < sizes.rounds; round += 1) {
      warm(join(bench.server.directory, stored.bucket));
      const limitSeconds = await downloadPacks(bench, link, stored);
      const name = `large-${link.port}-${round}`;
      const head = await (async () => {
        await using node = await freshNode(bench, { link, stored, name: `${name}-head` });
        return await read(join(node.target, FILE), 'random', '1');
      })();
      const random = await (async () => {
        await using node = await freshNode(bench, { link, stored, name: `${name}-random` });
        return await read(join(node.target, FILE), 'random', String(COLD_READS));
      })();
      await using node = await freshNode(bench, { link, stored, name });
      const pid = await node.larder.daemon();
      forgetPeak([pid]);
      const processor = processorSeconds([pid]);
      const seconds = await read(join(node.target, FILE), 'sequential');
      const figure = {
        limitSeconds,
        headSeconds: head,
        coldRandomSeconds: random,
        seconds,
        processorSeconds: processorSeconds([pid]) - processor,
        peakResidentBytes: peakResident(pid),
        passed: await link.takePassed(),
      };
      taken.push(figure);
      bench.record({ part: 'large file, cold', link: link.name, round, bytes: sizes.largeBytes, ...figure });
      if (link !== bench.fast || round !== sizes.rounds - 1) continue;
      // All of it is cached now: an open from here on is native.
      for (const { how, mode, count, unit, prepare } of [
        {
          how: 'warm, sequential',
          mode: ['sequential'],
          count: sizes.largeBytes / 1e6,
          unit: 'MB',
          prepare: undefined,
        },
        {
          how: 'page cache dropped, sequential',
          mode: ['sequential'],
          count: sizes.largeBytes / 1e6,
          unit: 'MB',
          prepare: dropCaches,
        },
        {
          how: 'random reads of 4 KiB, warm',
          mode: ['random', String(sizes.randomReads)],
          count: sizes.randomReads,
          unit: 'reads',
          prepare: undefined,
        },
      ] as const) {
        const one = (directory: string) => async () => {
          prepare?.();
          return await read(join(directory, FILE), ...(mode as readonly string[] as [string, ...string[]]));
        };
        if (prepare === undefined) for (const directory of [node.target, source]) await one(directory)();
        const result = await inTurn(Math.max(1, sizes.rounds), one(node.target), one(source));
        bench.record({ part: 'large file, cached', how, count, ...result });
        rows.push({
          what: `a file of ${size}, ${how}`,
          larder: rate(count, result.first, unit),
          rival: rate(count, result.second, unit),
          rivalName: 'native XFS',
          value: median(result.ratios),
          goal: { atLeast: 0.97 },
        });
      }
    }
    const middle = (of: (one: (typeof taken)[number]) => number) => median(taken.map(of));
    rows.push(
      {
        what: `a file of ${size}, cold, sequential (${link.name})`,
        larder: rate(
          sizes.largeBytes / 1e6,
          middle((one) => one.seconds),
          'MB',
        ),
        rival: rate(
          stored.bytes / 1e6,
          middle((one) => one.limitSeconds),
          'MB',
        ),
        rivalName: 'plain download of the packs',
        value: middle((one) => one.limitSeconds / one.seconds),
        goal: { atLeast: 0.9 },
      },
      {
        what: `its first read, cold, of 4 KiB (${link.name})`,
        larder: '',
        value: middle((one) => one.headSeconds) * 1000,
        unit: 'ms',
      },
      {
        what: `its random reads of 4 KiB, cold, one after the other (${link.name})`,
        larder: rate(
          COLD_READS,
          middle((one) => one.coldRandomSeconds),
          'reads',
        ),
        value: COLD_READS / middle((one) => one.coldRandomSeconds),
        unit: 'reads/s',
      },
      {
        what: `the daemon's processor time for a GB (${link.name})`,
        larder: '',
        value: middle((one) => one.processorSeconds) / (sizes.largeBytes / 1e9),
        unit: 's',
      },
      {
        what: `the daemon, resident at most (${link.name})`,
        larder: '',
        value: middle((one) => one.peakResidentBytes) / 1e6,
        unit: 'MB',
        goal: { atMost: 200 },
      },
    );
  }
  dropStored(bench, stored);
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
