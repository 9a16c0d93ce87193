import { type Bench, FULL, type Part, SMALL } from './cache/context.ts';
import { benchEpochs } from './cache/epochs.ts';
import { benchHalf } from './cache/half.ts';
import { benchLargeFile } from './cache/large.ts';
import { checkLink } from './cache/link-check.ts';
import { benchPeers } from './cache/peers.ts';
import { benchRestart, benchStaged } from './cache/restart.ts';
import { benchTogether } from './cache/together.ts';
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
  /** Little of everything, to see that it runs. */
  readonly small: boolean;
  /** Which parts, by name; all if none. */
  readonly parts: readonly string[];
}

/** The node's cache: how fast it fills, how fast it serves, beside the limits of link and disk. */
export async function benchCache(scratch: string, options: CacheOptions): Promise<Report> {
  const wanted = options.parts.length > 0 ? options.parts : Object.keys(parts);
  const unknown = wanted.filter((name) => !Object.hasOwn(parts, name));
  if (unknown.length > 0) throw new Error(`no part ${unknown.join(', ')}; there are: ${Object.keys(parts).join(', ')}`);
  const sizes = options.small ? SMALL : FULL;
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await startS3In(stack.use(freshXfs(scratch, 's3', 40)).directory));
  const shape = compileProgram(scratch, 'shape');
  const link = async (bytesPerSecond: number) =>
    stack.use(await openLink(shape, server, { milliseconds: 10, bytesPerSecond }));
  const figures: unknown[] = [];
  const bench: Bench = {
    scratch,
    sizes,
    programs: { reader: compileProgram(scratch, 'reader'), fetch: compileProgram(scratch, 'fetch') },
    server,
    slow: await link(100e6),
    fast: await link(0),
    record(figure) {
      figures.push(figure);
      console.error(`bench: ${JSON.stringify(figure)}`);
    },
  };
  const rows: Row[] = [];
  const tables: string[] = [];
  for (const one of [bench.slow, bench.fast])
    rows.push(...(await checkLink(scratch, bench.programs.fetch, one, sizes.checkBytes)));
  for (const name of wanted) {
    console.error(`bench: cache, ${name}`);
    const found = await parts[name]!(bench);
    const report: Report = Array.isArray(found) ? { rows: found } : found;
    rows.push(...report.rows);
    if (report.table !== undefined) tables.push(report.table);
  }
  return { rows, figures, ...(tables.length > 0 && { table: tables.join('\n\n') }) };
}
