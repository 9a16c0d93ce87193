import { join } from 'node:path';
import { type Bench, FULL, gibibytesFor, type Images, type Part, SMALL, storeDataset } from './cache/context.ts';
import { benchEpochs } from './cache/epochs.ts';
import { benchHalf } from './cache/half.ts';
import { benchLargeFile } from './cache/large.ts';
import { checkLink } from './cache/link-check.ts';
import { benchPeers } from './cache/peers.ts';
import { benchRestart, benchStaged } from './cache/restart.ts';
import { benchTogether } from './cache/together.ts';
import { writeImages } from './corpus.ts';
import { freshXfs } from './filesystem.ts';
import { openLink } from './link.ts';
import { compileProgram } from './programs.ts';
import type { Report, Row } from './report.ts';
import { startS3In } from './s3.ts';

/** What each part is called on the command line. */
const parts: Record<string, Part> = {
  epochs: benchEpochs,
  large: benchLargeFile,
  half: benchHalf,
  together: benchTogether,
  peers: benchPeers,
  restart: benchRestart,
  staged: benchStaged,
};

export interface CacheOptions {
  /** Instead of as many files as usual. */
  readonly files: number | undefined;
  /** Little of everything, to see that it runs. */
  readonly small: boolean;
  /** Which parts, by name; all if none. */
  readonly parts: readonly string[];
  /** Which peers, by name; all if none. */
  readonly peers: readonly string[];
  /** Told after each part what there is so far. */
  readonly soFar: (report: Report) => void;
}

/** The node's cache: how fast it fills, how fast it serves, beside the limits of link and disk. */
export async function benchCache(scratch: string, options: CacheOptions): Promise<Report> {
  const wanted = options.parts.length > 0 ? options.parts : Object.keys(parts);
  const unknown = wanted.filter((name) => !Object.hasOwn(parts, name));
  if (unknown.length > 0) throw new Error(`no part ${unknown.join(', ')}; there are: ${Object.keys(parts).join(', ')}`);
  const usual = options.small ? SMALL : FULL;
  const { files } = options;
  const sizes =
    files === undefined ? usual : { ...usual, files, peerFiles: files, oneByOne: Math.min(files, usual.oneByOne) };
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await startS3In(stack.use(freshXfs(scratch, 's3', 40)).directory));
  const shape = compileProgram(scratch, 'shape');
  const link = async (bytesPerSecond: number) =>
    stack.use(await openLink(shape, server, { milliseconds: 10, bytesPerSecond }));
  const figures: unknown[] = [];
  const made = new Map<number, Promise<Images>>();
  const makeImages = async (fileBytes: number): Promise<Images> => {
    const bytes = sizes.files * fileBytes;
    const { directory } = stack.use(freshXfs(scratch, `images-${fileBytes}`, gibibytesFor(bytes)));
    const source = join(directory, 'files');
    writeImages(source, sizes.files, fileBytes);
    const what = `${sizes.files.toLocaleString('en-US')} files of ${fileBytes / 1000} KB`;
    return { source, what, stored: await storeDataset(bench, source) };
  };
  const bench: Bench = {
    scratch,
    sizes,
    programs: { reader: compileProgram(scratch, 'reader'), fetch: compileProgram(scratch, 'fetch') },
    server,
    slow: await link(100e6),
    fast: await link(0),
    peers: options.peers.map((name) => name.toLowerCase()),
    images(fileBytes) {
      const images = made.get(fileBytes) ?? makeImages(fileBytes);
      made.set(fileBytes, images);
      return images;
    },
    record(figure) {
      figures.push(figure);
      console.error(`bench: ${JSON.stringify(figure)}`);
    },
  };
  const rows: Row[] = [];
  const tables: string[] = [];
  const report = (): Report => ({ rows, figures, ...(tables.length > 0 && { table: tables.join('\n\n') }) });
  for (const one of [bench.slow, bench.fast])
    rows.push(...(await checkLink(scratch, bench.programs.fetch, one, sizes.checkBytes)));
  for (const name of wanted) {
    console.error(`bench: cache, ${name}`);
    try {
      const found = await parts[name]!(bench);
      const { rows: more, table }: Report = Array.isArray(found) ? { rows: found } : found;
      rows.push(...more);
      if (table !== undefined) tables.push(table);
    } catch (error) {
      // What the other parts take minutes to measure is not lost with one.
      const message = describe(error);
      console.error(`bench: cache, ${name} failed: ${message}`);
      tables.push(`${name} failed: ${message}`);
      figures.push({ part: name, failed: message });
      process.exitCode = 1;
    }
    options.soFar(report());
  }
  return report();
}

function describe(error: unknown): string {
  if (error instanceof SuppressedError) return `${describe(error.suppressed)}; then ${describe(error.error)}`;
  return error instanceof Error ? error.message : String(error);
}
