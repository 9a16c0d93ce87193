import { measure } from '../measure.ts';
import type { Bench } from './context.ts';

/** What `writer load` says of itself; times in seconds. */
export interface Load {
  readonly operations: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly p50: number;
  readonly p99: number;
  /** The longest that one operation took, fsync aside. */
  readonly longest: number;
  readonly longestSync: number;
}

/** Writes into a directory as fast as it goes, for so many seconds. */
export async function writeLoad({ writer }: Bench, directory: string, seconds: number): Promise<Load> {
  return JSON.parse((await measure([writer, 'load', directory, String(seconds)])).stdout) as Load;
}

/**
 * Writes one file in sequence, with fsync.
 * @param tenths how much of it is another content in each generation
 * @returns how long it took, in seconds
 */
export async function writeCheckpoint(
  { writer, sizes }: Bench,
  file: string,
  { bytes = sizes.checkpointBytes, generation = 0, tenths = 10 } = {},
): Promise<number> {
  const command = [writer, 'checkpoint', file, String(bytes), String(generation), String(tenths)];
  return (JSON.parse((await measure(command)).stdout) as { seconds: number }).seconds;
}
