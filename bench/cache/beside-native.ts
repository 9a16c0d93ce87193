import { dropCaches } from '../filesystem.ts';
import { inTurn, median } from '../measure.ts';
import { type Row, rate } from '../report.ts';
import type { Bench } from './context.ts';

export interface BesideNative {
  /** In the figures. */
  readonly part: string;
  readonly what: string;
  /** How much is read, in this unit. */
  readonly count: number;
  readonly unit: string;
  /** Whether all is read from the disk, rather than from the page cache. */
  readonly dropped?: boolean;
  readonly atLeast: number;
  /** The same reading on the mount and on the native file system. @returns seconds */
  ours(): Promise<number>;
  native(): Promise<number>;
}

/** What is cached, beside the native file system, in turn with it. */
export async function besideNative(bench: Bench, one: BesideNative): Promise<Row> {
  const { part, what, count, unit, dropped = false, atLeast } = one;
  const prepared = (read: () => Promise<number>) => async () => {
    if (dropped) dropCaches();
    return await read();
  };
  if (!dropped) for (const read of [one.ours, one.native]) await read();
  const result = await inTurn(bench.sizes.rounds, prepared(one.ours), prepared(one.native));
  bench.record({ part, what, count, unit, ...result });
  return {
    what,
    larder: rate(count, result.first, unit),
    rival: rate(count, result.second, unit),
    rivalName: 'native XFS',
    value: median(result.ratios),
    goal: { atLeast },
  };
}
