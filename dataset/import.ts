import { closeSync, constants, openSync, realpathSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createStatRecord, STAT, statFd } from '../system/calls/directory.ts';
import { acquireLock } from '../system/lock.ts';
import { type ByteString, fromBuffer, textOf } from './byte-string.ts';
import { markSweeps } from './collect/guard.ts';
import { type CommitResult, commitChanges } from './commit.ts';
import type { Digest } from './digest.ts';
import type { DirectoryEntry } from './entry.ts';
import { ConflictError, InvalidError, isErrno, NotFoundError } from './errors.ts';
import { findChanges } from './import/find-changes.ts';
import type { Change } from './import/read-changes.ts';
import { readXattrs, type Skipped } from './import/scan.ts';
import { StatCache, statCacheFile } from './import/stat-cache.ts';
import { walk } from './import/walk.ts';
import type { ImportTask, ImportWorkerData } from './import/worker.ts';
import { findEntry } from './manifest.ts';
import { readBranch, readTag, writeTag } from './refs.ts';
import type { Repository } from './repository.ts';
import { Pool } from './threads/pool.ts';
import { findVersion, type Origin, type Version } from './version.ts';

export interface ImportOptions {
  readonly repository: Repository;
  /** The directory to import. */
  readonly source: string;
  readonly dataset: string;
  readonly branch: string;
  readonly message: string;
  readonly author: string;
  /** A tag to make for the version. */
  readonly tag?: string;
  readonly meta?: Readonly<Record<string, string>>;
  /** The versions that it is made from, for its lineage. */
  readonly from?: readonly Origin[];
  /** Read every file, also those that look unchanged since the last import. */
  readonly checksum?: boolean;
  readonly onProgress?: (progress: ImportProgress) => void;
  /** Told of what the version does not have, in words for people. */
  readonly onWarning?: (message: string) => void;
  readonly signal?: AbortSignal;
}

export interface ImportProgress {
  readonly phase: string;
  /** Read so far. */
  readonly files: number;
  readonly bytes: number;
  /** Entries looked at so far. */
  readonly seen: number;
}

export interface ImportResult extends CommitResult {
  /** Entries looked at. */
  readonly seen: number;
  /** Devices, sockets and FIFOs, which a version does not hold. */
  readonly skipped: Skipped;
}

/** The clock by which file systems give times may be this much behind, in nanoseconds: ticks of up to 10 ms. */
const CLOCK_TICK = 20_000_000n;

/** Versions back from the head among which one may be whose listings are kept. */
const ANCESTORS = 1000;

/**
 * Imports a directory as a version. What is unchanged since the last import of this directory to this branch is not read; where
 * nothing is changed, nothing is written.
 *
 * Errors name the file and tell what to do: UnavailableError for one that cannot be read, ConflictError for one that keeps changing,
 * or where the branch moved meanwhile.
 */
export async function importDirectory(options: ImportOptions): Promise<ImportResult> {
  const { repository, dataset, branch, tag, signal, onProgress, onWarning, checksum = false } = options;
  const source = realSource(options.source);
  if (tag !== undefined) await refuseTag(repository, dataset, tag);
  await using stack = new AsyncDisposableStack();

  const file = statCacheFile(repository.id, { source, dataset, branch });
  await mkdir(dirname(file), { recursive: true });
  // Another import of the same directory goes first: this one then finds what it did.
  stack.use((await acquireLock(`${file}.lock`, 'exclusive', { signal }))!);
  const kept = new StatCache(file);
  stack.defer(() => kept.close());
  const began = BigInt(Date.now()) * 1_000_000n - CLOCK_TICK;

  const since = await markSweeps(repository, signal);
  const ref = await readBranch(repository, dataset, branch);
  const base =
    ref && kept.version !== undefined ? await findAncestor(repository, ref.version, kept.version) : undefined;
  const data: ImportWorkerData = {
    scan: {
      root: source,
      trustBefore: [Number(began / 1_000_000_000n), Number(began % 1_000_000_000n)],
      everything: checksum,
    },
    kept: base === undefined ? undefined : file,
  };
  const pool = stack.use(
    new Pool<ImportTask, unknown>({ module: new URL('./import/worker.ts', import.meta.url), data }),
  );

  let seen = 0;
  const skipped: Skipped = { devices: 0, sockets: 0, fifos: 0 };
  const vanished: ByteString[] = [];
  let progress = { phase: 'scanning', files: 0, bytes: 0 };
  const report = () => onProgress?.({ ...progress, seen });
  const gone = (path: ByteString) => {
    vanished.push(path);
    onWarning?.(`'${textOf(path)}' went while it was imported`);
  };

  kept.begin();
  const rootBefore = base === undefined ? undefined : kept.root;
  if (base === undefined) kept.clear();
  const found = walk({
    pool,
    signal,
    onKeep: (keep) => kept.keep(keep),
    onListed: (directory, digest) => kept.listed(directory, digest),
    onGone: (directory) => kept.gone(directory),
    onVanished: gone,
    onSeen(entries, skips) {
      seen += entries;
      skipped.devices += skips.devices;
      skipped.sockets += skips.sockets;
      skipped.fifos += skips.fifos;
      report();
    },
  });
  const root = readRoot(source);
  async function* changes(): AsyncGenerator<readonly Change[]> {
    if (root.facts !== rootBefore) yield [{ kind: 'put', entry: root.entry }];
    yield* findChanges(found, {
      source,
      before: async (path) => base && (await findEntry(repository, base.root, path, signal)),
    });
  }
  const result = await commitChanges({
    ...options,
    base,
    since,
    head: { ref },
    changes: changes(),
    pool,
    onVanished: gone,
    onProgress(now) {
      progress = now;
      report();
    },
  });
  kept.root = root.facts;
  for (const path of vanished) kept.distrust(path);
  kept.commit(result.version.id);
  if (tag !== undefined) await writeTag(repository, dataset, tag, { version: result.version.id });
  warnOfSkipped(skipped, onWarning);
  return { ...result, seen, skipped };
}

function realSource(source: string): ByteString {
  try {
    return fromBuffer(realpathSync(Buffer.from(source), 'buffer'));
  } catch (error) {
    if (!isErrno(error, 'ENOENT') && !isErrno(error, 'ENOTDIR')) throw error;
    throw new NotFoundError(`there is no directory ${source} to import`, { cause: error, facts: { source } });
  }
}

/** A tag that names something already is found out before hours of work, not after. */
async function refuseTag(repository: Repository, dataset: string, tag: string): Promise<void> {
  const found = await readTag(repository, dataset, tag);
  if (found !== undefined)
    throw new ConflictError(`dataset '${dataset}' has a tag '${tag}' already; choose another, or delete it first`, {
      facts: { dataset, tag, version: found.version },
    });
}

/** The version `wanted` if it is `head` or leads to it: then nothing of it has been collected. */
export async function findAncestor(repository: Repository, head: Digest, wanted: Digest): Promise<Version | undefined> {
  const queue = [head];
  const seen = new Set<Digest>(queue);
  for (let i = 0; i < queue.length && i < ANCESTORS; i++) {
    const version = await findVersion(repository, queue[i]!);
    // Histories may be cut short.
    if (version === undefined) continue;
    if (version.id === wanted) return version;
    for (const parent of version.parents)
      if (!seen.has(parent)) {
        seen.add(parent);
        queue.push(parent);
      }
  }
  return undefined;
}

/** The root directory's entry, and all that shows whether it is as it was. */
function readRoot(source: ByteString): { readonly entry: DirectoryEntry; readonly facts: string } {
  const fd = openRoot(source);
  try {
    const record = createStatRecord();
    statFd(fd, record);
    const { words } = record;
    const xattrs = readXattrs(fd);
    const signed = (low: number) => words[low]! + (words[low + 1]! | 0) * 0x1_0000_0000;
    const entry: DirectoryEntry = {
      type: 'directory',
      path: '' as ByteString,
      mode: words[STAT.mode]! & 0o7777,
      uid: words[STAT.uid]!,
      gid: words[STAT.gid]!,
      mtimeSeconds: signed(STAT.mtime),
      mtimeNanos: words[STAT.mtimeNanos]!,
      ...(xattrs && { xattrs }),
    };
    return { entry, facts: JSON.stringify(entry) };
  } finally {
    closeSync(fd);
  }
}

function openRoot(source: ByteString): number {
  try {
    return openSync(Buffer.from(source, 'latin1'), constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NONBLOCK);
  } catch (error) {
    if (!isErrno(error, 'ENOTDIR')) throw error;
    throw new InvalidError(`${textOf(source)} is not a directory; give the directory to import`, {
      cause: error,
      facts: { source: textOf(source) },
    });
  }
}

function warnOfSkipped({ devices, sockets, fifos }: Skipped, onWarning: ImportOptions['onWarning']): void {
  const parts = [
    [devices, 'device'],
    [sockets, 'socket'],
    [fifos, 'FIFO'],
  ] as const;
  const words = parts.flatMap(([count, word]) => (count === 0 ? [] : [`${count} ${word}${count === 1 ? '' : 's'}`]));
  if (words.length > 0) onWarning?.(`left out, as a version cannot hold them: ${words.join(', ')}`);
}
