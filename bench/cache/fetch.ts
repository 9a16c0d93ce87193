import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freshXfs } from '../filesystem.ts';
import type { Link } from '../link.ts';
import { measure } from '../measure.ts';
import { type Bench, gibibytesFor, type Stored } from './context.ts';

export interface Fetched {
  readonly operations: number;
  readonly bytes: number;
  readonly seconds: number;
}

export interface Fetch {
  readonly scratch: string;
  /** The compiled `fetch.c`. */
  readonly fetch: string;
  readonly link: Link;
  /** `/bucket/key` of each object. */
  readonly paths: readonly string[];
  readonly connections: number;
  /** Where bodies are to be written; left out, they are only received. */
  readonly into?: string;
}

/** A plain parallel download of whole objects. */
export async function fetchAll({ scratch, fetch, link, paths, connections, into }: Fetch): Promise<Fetched> {
  const list = join(scratch, 'fetch.list');
  writeFileSync(list, `${link.targets(paths).join('\n')}\n`);
  const command = [fetch, String(link.port), list, String(connections), ...(into === undefined ? [] : [into])];
  const { stdout } = await measure(command);
  return JSON.parse(stdout) as Fetched;
}

/** What link and disk can do at most: seconds to download all packs of a dataset into a fresh file system. */
export async function downloadPacks({ scratch, programs }: Bench, link: Link, stored: Stored): Promise<number> {
  using filesystem = freshXfs(scratch, 'download', gibibytesFor(stored.bytes));
  execFileSync('sync');
  const { fetch } = programs;
  const into = filesystem.directory;
  return (await fetchAll({ scratch, fetch, link, paths: stored.packs, connections: 8, into })).seconds;
}
