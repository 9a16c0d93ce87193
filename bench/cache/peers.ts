import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { shuffledFiles, writeImages } from '../corpus.ts';
import { dropCaches, freshXfs } from '../filesystem.ts';
import type { Passed } from '../link.ts';
import { measure, median } from '../measure.ts';
import { juicefs, juicefsTuned } from '../peers/juicefs.ts';
import { larder } from '../peers/larder.ts';
import { mountpoint } from '../peers/mountpoint.ts';
import type { OpenPeer, Peer, Place } from '../peers/peer.ts';
import { rclone } from '../peers/rclone.ts';
import { s3fs } from '../peers/s3fs.ts';
import { forgetPeak, peakResident, processorSeconds } from '../processes.ts';
import { columns, type Report, type Row } from '../report.ts';
import {
  type Bench,
  dropStored,
  gibibytesFor,
  readFileBy,
  readList,
  storeDataset,
  warm,
  writeList,
} from './context.ts';
import { FILE, writeLargeFile } from './large.ts';
import { storePlain } from './plain.ts';

const FILE_BYTES = 110_000;
const READERS = 8;

/** What takes longer is not repeated: one long run says enough. */
const REPEAT_BELOW_SECONDS = 20;

/** How long reads of 4 KiB are to take, about. */
const RANDOM_SECONDS = 2;

const peers: readonly Peer[] = [larder, juicefs, juicefsTuned, rclone, s3fs, mountpoint];

interface Measure {
  readonly title: string;
  readonly unit: string;
  /** Whether more is better, where one is. */
  readonly more?: boolean;
}

/** What is measured of each, in its order in the table. */
const measures = {
  cold: { title: `first epoch, ${READERS} readers`, unit: 'files/s', more: true },
  requests: { title: 'its requests', unit: '' },
  processor: { title: "its daemon's processor time", unit: 's' },
  resident: { title: 'its daemon, resident', unit: 'MB' },
  warm: { title: `second epoch, ${READERS} readers`, unit: 'files/s', more: true },
  dropped: { title: 'the same, page cache dropped', unit: 'files/s', more: true },
  listCold: { title: '`ls -lR`, cold', unit: 's', more: false },
  listWarm: { title: '`ls -lR`, warm', unit: 's', more: false },
  largeCold: { title: 'a large file in sequence, cold', unit: 'MB/s', more: true },
  largeWarm: { title: 'the same, warm', unit: 'MB/s', more: true },
  random: { title: 'its 4 KiB random reads, warm', unit: 'reads/s', more: true },
} as const satisfies Record<string, Measure>;

type MeasureName = keyof typeof measures;

interface Value {
  readonly value: number;
  /** The native file system's, measured in turn with it. */
  readonly native?: number;
}

type Values = Record<MeasureName, Value>;

/** Other programs that mount a bucket, and Larder, one after the other: same server and link, same disk, same files, same reader. */
export async function benchPeers(bench: Bench): Promise<Report> {
  const { sizes, scratch } = bench;
  const notes: string[] = [];
  const taking: Peer[] = [];
  const named = (peer: Peer) => bench.peers.length === 0 || bench.peers.includes(peer.name.toLowerCase());
  for (const peer of peers.filter(named)) {
    const why = await peer.install();
    if (why === undefined) taking.push(peer);
    else notes.push(`${peer.name} is left out: ${why}`);
  }
  for (const note of notes) console.error(`bench: ${note}`);
  const bytes = sizes.peerFiles * FILE_BYTES + sizes.largeBytes;
  using native = freshXfs(scratch, 'native-peers', gibibytesFor(bytes));
  const source = join(native.directory, 'source');
  mkdirSync(source);
  writeImages(join(source, 'files'), sizes.peerFiles, FILE_BYTES);
  writeLargeFile(join(source, 'large'), sizes.largeBytes);
  const stored = await storeDataset(bench, source);
  const plain = await storePlain(bench, source, shuffledFiles(source));
  const results = new Map<string, Values>();
  for (const peer of taking) {
    using own = freshXfs(scratch, 'peer', gibibytesFor(bytes * 2));
    const place = { bench, directory: own.directory, link: bench.slow, source, plain, stored };
    try {
      await using open = await peer.open(place);
      const values = await measurePeer(place, open);
      results.set(peer.name, values);
      bench.record({ part: 'peers', peer: peer.name, link: bench.slow.name, files: sizes.peerFiles, ...values });
    } catch (error) {
      if (peer === larder) throw error;
      notes.push(`${peer.name} is left out: ${(error as Error).message}`);
      console.error(`bench: ${notes.at(-1)}`);
    }
  }
  dropStored(bench, stored);
  rmSync(join(bench.server.directory, plain.bucket), { recursive: true });
  return { table: [tableOf(results), ...notes].join('\n\n'), rows: rowsOf(results) };
}

async function measurePeer({ bench, link, source }: Place, peer: OpenPeer): Promise<Values> {
  const { sizes, server } = bench;
  const files = sizes.peerFiles;
  const directories = { peer: join(peer.root, 'files'), native: join(source, 'files') };
  const anew = async () => {
    await peer.stop();
    peer.clearCache();
    dropCaches();
    warm(join(server.directory, peer.bucket));
    await peer.start();
    await link.takePassed();
  };
  const list = async (directory: string) => (await measure(['sh', '-c', 'ls -lR "$0" >/dev/null', directory])).seconds;
  const read = (file: string, how: 'sequential' | 'random', reads?: number) => readFileBy(bench, file, how, reads);

  await anew();
  const listCold = await list(directories.peer);
  const listWarm = await inTurnWhileShort(
    sizes.rounds,
    () => list(directories.peer),
    () => list(directories.native),
  );

  const lists = {
    peer: writeList(bench, directories.peer, 'peer'),
    native: writeList(bench, directories.native, 'peer-native'),
  };
  await anew();
  const before = peer.processes();
  forgetPeak(before);
  const processor = processorSeconds(before);
  const coldSeconds = await readList(bench, lists.peer, READERS);
  const passed = await link.takePassed();
  // With those that it has started meanwhile.
  const pids = peer.processes();
  const processorUsed = processorSeconds(pids) - processor;
  const resident = pids.reduce((sum, pid) => sum + peakResident(pid), 0);
  const epoch = (files: string) => () => readList(bench, files, READERS);
  await epoch(lists.native)();
  const warmed = await inTurnWhileShort(sizes.rounds, epoch(lists.peer), epoch(lists.native));
  const afterDrop = (files: string) => async () => {
    dropCaches();
    return await epoch(files)();
  };
  const dropped = await inTurnWhileShort(sizes.rounds, afterDrop(lists.peer), afterDrop(lists.native));

  const large = { peer: join(peer.root, 'large', FILE), native: join(source, 'large', FILE) };
  await anew();
  const largeCold = await read(large.peer, 'sequential');
  await read(large.native, 'sequential');
  const largeWarm = await inTurnWhileShort(
    sizes.rounds,
    () => read(large.peer, 'sequential'),
    () => read(large.native, 'sequential'),
  );
  const random = async (file: string) => {
    const trial = Math.min(1000, sizes.randomReads);
    const count = Math.round(
      Math.min(sizes.randomReads, Math.max(trial, (trial / (await read(file, 'random', trial))) * RANDOM_SECONDS)),
    );
    return count / (await read(file, 'random', count));
  };
  const randomReads = await inTurnWhileShort(
    sizes.rounds,
    () => random(large.peer),
    () => random(large.native),
  );
  await peer.stop();
  const megabytes = sizes.largeBytes / 1e6;
  const rateOf = (work: number, { value, native }: { value: number; native: number }) => ({
    value: work / value,
    native: work / native,
  });
  return {
    cold: { value: files / coldSeconds },
    requests: { value: requestsOf(passed) },
    processor: { value: processorUsed },
    resident: { value: resident / 1e6 },
    warm: rateOf(files, warmed),
    dropped: rateOf(files, dropped),
    listCold: { value: listCold },
    listWarm,
    largeCold: { value: megabytes / largeCold },
    largeWarm: rateOf(megabytes, largeWarm),
    random: randomReads,
  };
}

function requestsOf({ get, list, head, other }: Passed): number {
  return get + list + head + other;
}

/** In turn, until enough or until one was long. @returns medians */
async function inTurnWhileShort(
  rounds: number,
  peer: () => Promise<number>,
  native: () => Promise<number>,
): Promise<{ value: number; native: number }> {
  const taken: { value: number; native: number }[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const start = performance.now();
    taken.push({ value: await peer(), native: await native() });
    if (performance.now() - start > REPEAT_BELOW_SECONDS * 1000) break;
  }
  return { value: median(taken.map(({ value }) => value)), native: median(taken.map(({ native }) => native)) };
}

/** Figures, and for what stands beside the native file system, in brackets how many times as good it is as that. */
function tableOf(results: ReadonlyMap<string, Values>): string {
  const names = [...results.keys()];
  const cells = (Object.keys(measures) as MeasureName[]).map((name) => {
    const { title, unit } = measures[name];
    const natives = names.flatMap((peer) => results.get(peer)![name].native ?? []);
    return [
      unit === '' ? title : `${title}, ${unit}`,
      natives.length === 0 ? '' : short(median(natives)),
      ...names.map((peer) => cellOf(name, results.get(peer)![name])),
    ];
  });
  return columns(['what (in brackets: as a share of native)', 'native XFS', ...names], cells);
}

function cellOf(name: MeasureName, value: Value): string {
  const { more }: Measure = measures[name];
  const figure = short(value.value);
  return value.native === undefined || more === undefined ? figure : `${figure} (${shareOf(value, more).toFixed(2)})`;
}

/** Of the native file system's, where that was measured. More is better. */
function shareOf({ value, native }: Value, more: boolean): number {
  return (native === undefined ? value : value / native) ** (more ? 1 : -1);
}

/** Larder beside the best of the others, in each measure that has a better and a worse. */
function rowsOf(results: ReadonlyMap<string, Values>): Row[] {
  const ours = results.get(larder.name);
  if (ours === undefined) return [];
  const others = [...results].filter(([name]) => name !== larder.name);
  const rows: Row[] = [];
  for (const name of Object.keys(measures) as MeasureName[]) {
    const how: Measure = measures[name];
    if (how.more === undefined || others.length === 0) continue;
    // The machine drifts: what was measured beside the native file system is compared by its share of it.
    const share = (value: Value) => shareOf(value, how.more!);
    const [best, theirs] = others
      .map(([peer, values]) => [peer, values[name]] as const)
      .reduce((a, b) => (share(b[1]) > share(a[1]) ? b : a));
    rows.push({
      what: how.title,
      larder: `${short(ours[name].value)} ${how.unit}`,
      rival: `${short(theirs.value)} ${how.unit}`,
      rivalName: `the best of the others: ${best}`,
      value: share(ours[name]) / share(theirs),
      goal: { atLeast: 1 },
    });
  }
  rows.push({
    what: `${measures.warm.title}, beside native`,
    larder: `${short(ours.warm.value)} files/s`,
    rival: `${short(ours.warm.native!)} files/s`,
    rivalName: 'native XFS',
    value: ours.warm.value / ours.warm.native!,
    goal: { atLeast: 0.9 },
  });
  return rows;
}

function short(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString('en-US') : value.toPrecision(3);
}
