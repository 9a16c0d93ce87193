import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { S3Server } from '../../test/support/s3-server.ts';
import { shuffledFiles } from '../corpus.ts';
import { freshXfs } from '../filesystem.ts';
import { type LarderUnderTest, larderIn } from '../larder.ts';
import type { Link } from '../link.ts';
import { measure } from '../measure.ts';
import type { Report, Row } from '../report.ts';

/** How much is measured. */
export interface Sizes {
  /** Files of each size in an epoch. */
  readonly files: number;
  /** Of these, how many are fetched one by one to see how fast that goes. */
  readonly oneByOne: number;
  readonly largeBytes: number;
  /** Of 4 KiB, in a file that is warm. */
  readonly randomReads: number;
  /** How often each thing is measured; medians count. */
  readonly rounds: number;
  /** What the link is checked with. */
  readonly checkBytes: number;
  /** Files of 110 KB that the peers read. */
  readonly peerFiles: number;
  /** Objects in the cache of a daemon that starts again. */
  readonly cachedObjects: number;
  /** Files of a version in place that is staged. */
  readonly stagedFiles: number;
}

export const FULL: Sizes = {
  files: 30_000,
  oneByOne: 6_000,
  largeBytes: 2 ** 30,
  randomReads: 400_000,
  rounds: 3,
  checkBytes: 512e6,
  peerFiles: 30_000,
  cachedObjects: 1_000_000,
  stagedFiles: 10_000_000,
};

/** To see in a few minutes that everything runs; its figures say little. */
export const SMALL: Sizes = {
  files: 1_500,
  oneByOne: 300,
  largeBytes: 160e6,
  randomReads: 20_000,
  rounds: 1,
  checkBytes: 64e6,
  peerFiles: 600,
  cachedObjects: 5_000,
  stagedFiles: 20_000,
};

/** What the parts of the benchmark of the cache share. */
export interface Bench {
  readonly scratch: string;
  readonly sizes: Sizes;
  readonly programs: { readonly reader: string; readonly fetch: string };
  readonly server: S3Server;
  /** 10 ms away, and 100 MB/s. */
  readonly slow: Link;
  /** 10 ms away, and as fast as the machine. */
  readonly fast: Link;
  /** Which peers take part, by name in lower case; all if none. */
  readonly peers: readonly string[];
  /** `sizes.files` files of so many bytes, and a repository with them; made when first asked for. */
  images(fileBytes: number): Promise<Images>;
  /** Keeps what was measured, for `--json`. */
  record(figure: Readonly<Record<string, unknown>>): void;
}

/** What a part finds. */
export type Part = (bench: Bench) => Promise<Report | Row[]>;

/** One dataset in a repository of its own on the server. */
export interface Stored {
  readonly bucket: string;
  readonly dataset: string;
  readonly bytes: number;
  readonly files: number;
  /** `/bucket/key` of each pack. */
  readonly packs: readonly string[];
}

export interface Images {
  /** The directory of the files, on a file system of its own. */
  readonly source: string;
  readonly stored: Stored;
  /** In words. */
  readonly what: string;
}

const DATASET = 'bench';

/** Imports a directory into a repository of its own, by the shortest way. */
export async function storeDataset({ scratch, server }: Bench, source: string): Promise<Stored> {
  const bucket = await server.makeBucket();
  const own = join(scratch, `import-${bucket}`);
  mkdirSync(own);
  await using larder = larderIn(own, server.locationOf(bucket));
  await larder.run('repository', 'init');
  await larder.run('import', source, DATASET);
  const files = shuffledFiles(source);
  const top = join(server.directory, bucket);
  return {
    bucket,
    dataset: DATASET,
    files: files.length,
    bytes: directoryBytes(source),
    packs: shuffledFiles(join(top, 'packs')).map((file) => `/${bucket}/${file.slice(top.length + 1)}`),
  };
}

/** Drops what `storeDataset` made. */
export function dropStored({ server }: Bench, { bucket }: Stored): void {
  rmSync(join(server.directory, bucket), { recursive: true });
}

/** A node with nothing in its cache, on a file system of its own, with one version mounted. */
export interface FreshNode extends AsyncDisposable {
  readonly larder: LarderUnderTest;
  readonly directory: string;
  /** Where the version is mounted. */
  readonly target: string;
  /** How long mounting took, with the daemon's start. */
  readonly stageSeconds: number;
}

export interface FreshNodeOptions {
  readonly link: Link;
  readonly stored: Stored;
  readonly name: string;
  readonly settings?: Readonly<Record<string, string>>;
}

export async function freshNode(bench: Bench, { link, stored, name, settings }: FreshNodeOptions): Promise<FreshNode> {
  await using stack = new AsyncDisposableStack();
  const { directory } = stack.use(freshXfs(bench.scratch, name, gibibytesFor(stored.bytes)));
  const target = join(directory, 'mounted');
  mkdirSync(target);
  const larder = stack.use(larderIn(directory, link.location(stored.bucket), settings));
  const { seconds: stageSeconds } = await larder.run('mount', stored.dataset, target);
  stack.defer(async () => void (await larder.run('unmount', target)));
  execFileSync('sync');
  await link.takePassed();
  const owned = stack.move();
  return { larder, directory, target, stageSeconds, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** A file system with room for a dataset in the cache, and half as much again. */
export function gibibytesFor(bytes: number): number {
  return Math.max(2, Math.ceil((bytes * 1.5) / 2 ** 30) + 2);
}

/** The list of a directory's files in some order, as `reader` takes it. */
export function writeList({ scratch }: Bench, directory: string, name: string, order = 0): string {
  const file = join(scratch, `${name}.list`);
  writeFileSync(file, `${shuffledFiles(directory, order).join('\n')}\n`);
  return file;
}

/** Seconds to read all files of a list with so many threads. */
export async function readList({ programs }: Bench, list: string, readers: number): Promise<number> {
  const { stdout } = await measure([programs.reader, 'files', list, String(readers)]);
  return (JSON.parse(stdout) as { seconds: number }).seconds;
}

/** Seconds to read one file: all of it in sequence, or so many random pieces of 4 KiB, one after the other. */
export async function readFileBy(
  { programs }: Bench,
  file: string,
  how: 'sequential' | 'random',
  reads = 0,
): Promise<number> {
  const { stdout } = await measure([programs.reader, how, file, ...(how === 'random' ? [String(reads)] : [])]);
  return (JSON.parse(stdout) as { seconds: number }).seconds;
}

export function directoryBytes(directory: string): number {
  return Number(execFileSync('du', ['-sb', directory], { encoding: 'utf8' }).split('\t')[0]);
}

/** Reads what a directory holds, so that what is measured does not wait for the disk of the server. */
export function warm(directory: string): void {
  if (readdirSync(directory).length > 0)
    execFileSync('sh', ['-c', 'find "$0" -type f -exec cat {} + >/dev/null', directory]);
}
