import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { shuffledFiles } from '../corpus.ts';
import { dropCaches } from '../filesystem.ts';
import type { Link, Passed } from '../link.ts';
import { inTurn, median } from '../measure.ts';
import { forgetPeak, peakResident, processorSeconds } from '../processes.ts';
import { type Row, rate } from '../report.ts';
import {
  type Bench,
  directoryBytes,
  type FreshNode,
  freshNode,
  readList,
  type Stored,
  warm,
  writeList,
} from './context.ts';
import { downloadPacks, fetchAll } from './fetch.ts';
import { storePlain } from './plain.ts';

const READERS = 8;

/** What the goals are for each size of files. */
const KINDS = [
  { fileBytes: 110_000, timesOneByOne: 5 },
  { fileBytes: 10_000, timesOneByOne: 20 },
] as const;

/** Small files: the first epoch, cold and shuffled, and the second beside the native file system. */
export async function benchEpochs(bench: Bench): Promise<Row[]> {
  const rows: Row[] = [];
  for (const kind of KINDS) {
    const { source, stored, what } = await bench.images(kind.fileBytes);
    const plain = await storePlain(bench, source, shuffledFiles(source).slice(0, bench.sizes.oneByOne));
    for (const link of [bench.slow, bench.fast]) {
      const last = await firstEpochs(bench, { what, link, stored, plain, goal: kind.timesOneByOne }, rows);
      await using node = last;
      if (link === bench.fast) await laterEpochs(bench, { what, node, source }, rows);
    }
    rmSync(join(bench.server.directory, plain.bucket), { recursive: true });
  }
  return rows;
}

interface First {
  readonly what: string;
  readonly link: Link;
  readonly stored: Stored;
  readonly plain: { readonly paths: readonly string[] };
  readonly goal: number;
}

interface FirstEpoch {
  readonly limitSeconds: number;
  readonly oneByOneFilesPerSecond: number;
  readonly seconds: number;
  readonly processorSeconds: number;
  readonly peakResidentBytes: number;
  readonly passed: Passed;
}

/** @returns the last node that was read from, with everything cached */
async function firstEpochs(bench: Bench, { what, link, stored, plain, goal }: First, rows: Row[]): Promise<FreshNode> {
  const { scratch, sizes, programs } = bench;
  const taken: FirstEpoch[] = [];
  let node: FreshNode | undefined;
  for (let round = 0; round < sizes.rounds; round += 1) {
    await node?.[Symbol.asyncDispose]();
    warm(join(bench.server.directory, stored.bucket));
    const limit = await downloadPacks(bench, link, stored);
    const one = await fetchAll({ scratch, fetch: programs.fetch, link, paths: plain.paths, connections: READERS });
    node = await freshNode(bench, { link, stored, name: `node-${stored.bucket}-${link.port}-${round}` });
    const pid = await node.larder.daemon();
    const list = writeList(bench, node.target, 'first');
    forgetPeak([pid]);
    const processor = processorSeconds([pid]);
    await link.takePassed();
    const seconds = await readList(bench, list, READERS);
    const processorUsed = processorSeconds([pid]) - processor;
    const passed = await link.takePassed();
    const figure = {
      limitSeconds: limit,
      oneByOneFilesPerSecond: one.operations / one.seconds,
      seconds,
      stageSeconds: node.stageSeconds,
      processorSeconds: processorUsed,
      peakResidentBytes: peakResident(pid),
      passed,
    };
    taken.push(figure);
    bench.record({
      part: 'first epoch',
      what,
      link: link.name,
      round,
      bytes: stored.bytes,
      files: stored.files,
      ...figure,
    });
  }
  const middle = (of: (one: (typeof taken)[number]) => number) => median(taken.map(of));
  const cold = `${what}, first epoch, shuffled, ${READERS} readers (${link.name})`;
  rows.push(
    {
      what: cold,
      larder: `${rate(
        stored.files,
        middle((one) => one.seconds),
        'files',
      )}, ${rate(
        stored.bytes / 1e6,
        middle((one) => one.seconds),
        'MB',
      )}`,
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
      what: 'the same, beside one GET a file',
      larder: rate(
        stored.files,
        middle((one) => one.seconds),
        'files',
      ),
      rival: rate(
        middle((one) => one.oneByOneFilesPerSecond),
        1,
        'files',
      ),
      rivalName: `${READERS} connections`,
      value: middle((one) => stored.files / one.seconds / one.oneByOneFilesPerSecond),
      // Where the link's rate is the limit, no one can be so many times faster.
      ...(link.shape.bytesPerSecond === 0 && { goal: { atLeast: goal } }),
    },
    {
      what: 'its requests for a thousand files',
      larder: `${middle((one) => one.passed.get)} in all`,
      value: (middle((one) => one.passed.get) / stored.files) * 1000,
      unit: 'requests',
    },
    {
      what: "the daemon's processor time for a GB",
      larder: `${middle((one) => one.processorSeconds).toFixed(1)} s in all`,
      value: middle((one) => one.processorSeconds) / (stored.bytes / 1e9),
      unit: 's',
    },
    {
      what: 'the daemon, resident at most',
      larder: '',
      value: middle((one) => one.peakResidentBytes) / 1e6,
      unit: 'MB',
      goal: { atMost: 200 },
    },
  );
  return node!;
}

interface Later {
  readonly what: string;
  readonly node: FreshNode;
  readonly source: string;
}

/** All is cached: beside the directory that it was imported from. */
async function laterEpochs(bench: Bench, { what, node, source }: Later, rows: Row[]): Promise<void> {
  const lists = { ours: writeList(bench, node.target, 'ours'), native: writeList(bench, source, 'native') };
  const { files } = bench.sizes;
  for (const { how, readers, prepare, goal } of [
    { how: 'warm, 1 reader', readers: 1, prepare: undefined, goal: 0.85 },
    { how: `warm, ${READERS} readers`, readers: READERS, prepare: undefined, goal: 0.9 },
    { how: `page cache dropped, ${READERS} readers`, readers: READERS, prepare: dropCaches, goal: 0.9 },
  ]) {
    const epoch = (list: string) => async () => {
      prepare?.();
      return await readList(bench, list, readers);
    };
    if (prepare === undefined) for (const list of Object.values(lists)) await epoch(list)();
    const result = await inTurn(Math.max(1, bench.sizes.rounds), epoch(lists.ours), epoch(lists.native));
    bench.record({ part: 'second epoch', what, how, files, ...result });
    rows.push({
      what: `${what}, second epoch, ${how}`,
      larder: rate(files, result.first, 'files'),
      rival: rate(files, result.second, 'files'),
      rivalName: 'native XFS',
      value: median(result.ratios),
      goal: { atLeast: goal },
    });
  }
  const taken = directoryBytes(node.larder.cache);
  bench.record({ part: 'cache on disk', what, bytes: taken });
}
