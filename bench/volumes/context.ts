import type { Report, Row } from '../report.ts';

/** How much is measured. */
export interface Sizes {
  /** Volumes of each kind. */
  readonly volumes: number;
  /** Files of the workspace that snapshots and saves are taken of, and the bytes of a large one beside them. */
  readonly files: number;
  readonly largeBytes: number;
  /** Of a checkpoint. */
  readonly checkpointBytes: number;
  /** How long a writer writes, in seconds, where it is measured what others cost it. */
  readonly writeSeconds: number;
  /** How often each thing is measured; medians count. */
  readonly rounds: number;
}

export const FULL: Sizes = {
  volumes: 1000,
  files: 100_000,
  largeBytes: 10e9,
  checkpointBytes: 10e9,
  writeSeconds: 30,
  rounds: 3,
};

/** To see in a few minutes that everything runs; its figures say little. */
export const SMALL: Sizes = {
  volumes: 30,
  files: 2000,
  largeBytes: 200e6,
  checkpointBytes: 400e6,
  writeSeconds: 5,
  rounds: 2,
};

/** What the parts of the benchmark of volumes share. */
export interface Bench {
  readonly scratch: string;
  readonly sizes: Sizes;
  /** The compiled `writer.c`. */
  readonly writer: string;
  /** Keeps what was measured, for `--json`. */
  record(figure: Readonly<Record<string, unknown>>): void;
}

/** What a part finds. */
export type Part = (bench: Bench) => Promise<Report | Row[]>;
