import { join } from 'node:path';
import type { Link, Passed } from '../link.ts';
import { median } from '../measure.ts';
import { forgetPeak, peakResident, processorSeconds } from '../processes.ts';
import { type Row, rate } from '../report.ts';
import { type Bench, type FreshNode, freshNode, type Stored, warm } from './context.ts';
import { downloadPacks } from './fetch.ts';

/** How a node read a dataset of which it had nothing cached. */
export interface Cold {
  /** A plain download of the same packs over the same link, just before. */
  readonly limitSeconds: number;
  readonly stageSeconds: number;
  readonly seconds: number;
  /** Of the daemon, meanwhile. */
  readonly processorSeconds: number;
  readonly peakResidentBytes: number;
  /** Over the link, meanwhile. */
  readonly passed: Passed;
}

export interface ColdRounds<Extra> {
  /** In the figures. */
  readonly part: string;
  readonly what: string;
  readonly link: Link;
  readonly stored: Stored;
  /** Reads all of it. @returns seconds */
  read(node: FreshNode): Promise<number>;
  /** What else is measured in each round, before it. */
  extra(name: string): Promise<Extra>;
}

/** As many rounds as are usual, each on a node of its own. @returns what each took, and the last node, which has everything cached */
export async function coldRounds<Extra extends object>(
  bench: Bench,
  { part, what, link, stored, read, extra }: ColdRounds<Extra>,
): Promise<{ readonly taken: readonly (Cold & Extra)[]; readonly node: FreshNode }> {
  const taken: (Cold & Extra)[] = [];
  for (let round = 1; ; round += 1) {
    const name = `${stored.bucket}-${link.port}-${round}`;
    warm(join(bench.server.directory, stored.bucket));
    const limitSeconds = await downloadPacks(bench, link, stored);
    const more = await extra(name);
    await using stack = new AsyncDisposableStack();
    const node = stack.use(await freshNode(bench, { link, stored, name }));
    const cold = { limitSeconds, ...(await readCold(node, link, read)), ...more };
    taken.push(cold);
    bench.record({ part, what, link: link.name, round, bytes: stored.bytes, files: stored.files, ...cold });
    if (round < bench.sizes.rounds) continue;
    stack.move();
    return { taken, node };
  }
}

async function readCold(
  node: FreshNode,
  link: Link,
  read: ColdRounds<object>['read'],
): Promise<Omit<Cold, 'limitSeconds'>> {
  const { stageSeconds } = node;
  const pid = await node.larder.daemon();
  forgetPeak([pid]);
  const before = processorSeconds([pid]);
  await link.takePassed();
  const seconds = await read(node);
  const used = processorSeconds([pid]) - before;
  const passed = await link.takePassed();
  return { stageSeconds, seconds, processorSeconds: used, peakResidentBytes: peakResident(pid), passed };
}

/** The median of one figure over the rounds. */
export function middle<Taken>(taken: readonly Taken[], figure: (one: Taken) => number): number {
  return median(taken.map(figure));
}

/** What a cold reading is held to, whatever was read. */
export function coldRows(what: string, link: Link, { bytes }: Stored, taken: readonly Cold[]): Row[] {
  const seconds = middle(taken, (one) => one.seconds);
  const limit = middle(taken, (one) => one.limitSeconds);
  const processor = middle(taken, (one) => one.processorSeconds);
  return [
    {
      what: `${what} (${link.name})`,
      larder: rate(bytes / 1e6, seconds, 'MB'),
      rival: rate(bytes / 1e6, limit, 'MB'),
      rivalName: 'plain download of the packs',
      value: middle(taken, (one) => one.limitSeconds / one.seconds),
      goal: { atLeast: 0.9 },
    },
    {
      what: `the daemon's processor time for a GB of it (${link.name})`,
      larder: `${processor.toFixed(1)} s in all`,
      value: processor / (bytes / 1e9),
      unit: 's',
    },
    {
      what: `the daemon, resident at most (${link.name})`,
      larder: '',
      value: middle(taken, (one) => one.peakResidentBytes) / 1e6,
      unit: 'MB',
      goal: { atMost: 200 },
    },
  ];
}
