import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { CommitOptions, CommitResult } from '../dataset/commit.ts';
import { shortId } from '../dataset/digest.ts';
import { ConflictError, InvalidError, isErrno, NotFoundError } from '../dataset/errors.ts';
import { type ImportProgress, importDirectory } from '../dataset/import.ts';
import { resolveOrigins } from '../dataset/lineage.ts';
import { parseMeta } from '../dataset/meta.ts';
import { DEFAULT_BRANCH, LATEST, validateName } from '../dataset/names.ts';
import { parseDatasetName, readBranch, readTag, writeTag } from '../dataset/refs.ts';
import type { Repository } from '../dataset/repository.ts';
import { importArchive } from '../dataset/source/import-archive.ts';
import { importExpanded } from '../dataset/source/import-expanded.ts';
import {
  importInPlace,
  importObjects,
  type ObjectsPlace,
  parseObjectsPlace,
} from '../dataset/source/import-objects.ts';
import { readVersion, type Version } from '../dataset/version.ts';
import { countTree, type TreeCount } from './count-tree.ts';
import { sizeOfVersion } from './describe.ts';
import { formatBytes, formatDuration, formatNumberOf } from './format.ts';
import type { ProgressState } from './progress.ts';
import type { Session } from './session.ts';

export interface ImportOptions {
  readonly message?: string;
  readonly tag?: string;
  readonly author?: string;
  readonly checksum?: boolean;
  /** `key=value` each. */
  readonly meta?: readonly string[];
  /** `NAME[@REF]` each. */
  readonly from?: readonly string[];
  /** Refer to objects where they are. */
  readonly inPlace?: boolean;
  /** Open tar archives into their members. */
  readonly expand?: boolean;
}

/** Where `NAME[@BRANCH]` leads a new version. */
export interface Target {
  readonly dataset: string;
  readonly branch: string;
}

/** The branch that a name means; an InvalidError where it is no name for one. */
export function parseTarget(name: string): Target {
  const { dataset, ref } = parseDatasetName(name);
  const branch = ref === undefined || ref === LATEST ? DEFAULT_BRANCH : validateName('branch', ref);
  return { dataset, branch };
}

/** What a version is made from. */
export type ImportSource =
  | { readonly kind: 'directory'; readonly path: string }
  /** A tar archive in a file, or on standard input. */
  | { readonly kind: 'archive'; readonly path: string | undefined }
  | { readonly kind: 'objects'; readonly place: ObjectsPlace };

/** What SOURCE means on the command line: a directory, a tar file, `-` or `s3://…`. */
export async function findSource(source: string): Promise<ImportSource> {
  if (source === '-') return { kind: 'archive', path: undefined };
  if (/^[a-z0-9+.-]+:\/\//i.test(source)) return { kind: 'objects', place: parseObjectsPlace(source) };
  const path = resolve(source);
  try {
    const found = await stat(path);
    if (found.isDirectory()) return { kind: 'directory', path };
    if (found.isFile() || found.isFIFO()) return { kind: 'archive', path };
  } catch (error) {
    if (!isErrno(error, 'ENOENT') && !isErrno(error, 'ENOTDIR')) throw error;
    throw new NotFoundError(
      `there is nothing at '${source}': give a directory, a tar file, '-' or s3://BUCKET/PREFIX`,
      {
        cause: error,
        facts: { source },
      },
    );
  }
  throw new InvalidError(`'${source}' is neither a directory nor a file`, { facts: { source } });
}

/** The directory that SOURCE names; an InvalidError where it is something else. */
export async function sourceDirectory(source: string): Promise<ImportSource> {
  const found = await findSource(source);
  if (found.kind === 'directory') return found;
  throw new InvalidError(`'${source}' is not a directory: 'larder import' takes tar files and buckets`, {
    facts: { source },
  });
}

/** Refuses options that do not go with the source, before anything is opened. */
export function checkOptions(source: ImportSource, { inPlace, expand }: ImportOptions): void {
  if (inPlace && source.kind !== 'objects')
    throw new InvalidError("'--in-place' is for the objects of a bucket: give s3://BUCKET/PREFIX, or leave it out");
  if (inPlace && expand)
    throw new InvalidError(
      "'--in-place' copies nothing, so that there is nothing for '--expand' to open: give one of them",
    );
}

/** Makes a version of `source`, prints its id, and what it took. */
export async function runImport(
  { environment, output, signal }: Session,
  repository: Repository,
  source: ImportSource,
  target: Target,
  options: ImportOptions,
): Promise<void> {
  const meta = parseMeta(options.meta ?? []);
  if (options.tag !== undefined) await refuseTakenTag(repository, target, options.tag);
  const from = await resolveOrigins(repository, options.from ?? []);
  const head = await headOf(repository, target);
  const began = performance.now();
  using progress = output.progress();
  // What changed since the last version is not known before it is found; of a first version, all is to be read.
  await using count =
    progress.visible && head === undefined && source.kind === 'directory' ? countTree(source.path) : undefined;
  const result = await importFrom(source, options, {
    repository,
    ...target,
    message: options.message ?? '',
    author: options.author ?? environment.author,
    meta,
    from,
    checksum: options.checksum === true,
    onProgress: (state) => progress.update(withTotals(state, head, count?.total)),
    onWarning: (text) => output.warn(text),
    signal,
  });
  progress.erase();
  const { version, read, stored, skipped, leftOut } = result;
  if (options.tag !== undefined) await writeTag(repository, target.dataset, options.tag, { version: version.id });
  const unchanged = result.outcome === 'unchanged';
  const milliseconds = Math.round(performance.now() - began);
  output.document({
    ...target,
    version: version.id,
    unchanged,
    ...(options.tag !== undefined && { tag: options.tag }),
    entries: version.entries,
    bytes: version.bytes,
    read,
    stored,
    ...(skipped && { skipped }),
    ...(leftOut !== undefined && { leftOut }),
    milliseconds,
  });
  output.line(version.id);
  const where = `${target.dataset}@${target.branch}`;
  const names = options.tag === undefined ? where : `${where}, tag ${options.tag}`;
  output.line(
    unchanged
      ? `${names}: nothing changed, still version ${shortId(version.id)} (${formatDuration(milliseconds)})`
      : `${names}: ${sizeOfVersion(version)}; ${formatNumberOf(read.files, 'file')} read, ${formatBytes(stored.packBytes + stored.segmentBytes)} stored in ${formatDuration(milliseconds)}`,
  );
  if (unchanged && (options.meta !== undefined || options.from !== undefined))
    output.warn('nothing changed, so there is no new version: its metadata and what it was made from are not kept');
}

/** What every way to import is given. */
interface Import {
  readonly repository: Repository;
  readonly dataset: string;
  readonly branch: string;
  readonly message: string;
  readonly author: string;
  readonly meta: Readonly<Record<string, string>>;
  readonly from: CommitOptions['from'];
  readonly checksum: boolean;
  readonly onProgress: (state: ImportProgress) => void;
  readonly onWarning: (text: string) => void;
  readonly signal: AbortSignal;
}

type Imported = CommitResult & { readonly skipped?: object; readonly leftOut?: number };

async function importFrom(source: ImportSource, { inPlace, expand }: ImportOptions, all: Import): Promise<Imported> {
  switch (source.kind) {
    case 'directory':
      return expand
        ? await importExpanded({ ...all, source: source.path })
        : await importDirectory({ ...all, source: source.path });
    case 'objects':
      return inPlace
        ? await importInPlace({ ...all, place: source.place })
        : await importObjects({ ...all, ...source, expand });
    case 'archive': {
      const { path } = source;
      if (path === undefined && process.stdin.isTTY)
        throw new InvalidError(
          "'-' is a tar archive on standard input, and that is a terminal: try 'tar -c DIR | larder import - NAME'",
        );
      const archive = path === undefined ? process.stdin : createReadStream(path, { highWaterMark: 1 << 20 });
      return await importArchive({ ...all, archive, name: path ?? 'standard input' });
    }
  }
}

/** A tag that could not be given in the end must not cost an import first. */
async function refuseTakenTag(repository: Repository, { dataset, branch }: Target, tag: string): Promise<void> {
  validateName('tag', tag);
  const [head, taken, other] = await Promise.all([
    readBranch(repository, dataset, branch),
    readTag(repository, dataset, tag),
    readBranch(repository, dataset, tag),
  ]);
  if (other !== undefined || tag === branch) {
    throw new ConflictError(`dataset '${dataset}' has a branch '${tag}': choose another name for the tag`, {
      facts: { dataset, tag },
    });
  }
  // An import that finds nothing changed may say the same tag again.
  if (taken === undefined || taken.version === head?.version) return;
  throw new ConflictError(
    `tag '${tag}' of dataset '${dataset}' names version ${shortId(taken.version)} already: choose another, or move it afterwards with 'larder tag move --force'`,
    { facts: { dataset, tag, version: taken.version } },
  );
}

async function headOf(repository: Repository, { dataset, branch }: Target): Promise<Version | undefined> {
  const ref = await readBranch(repository, dataset, branch);
  return ref && (await readVersion(repository, ref.version));
}

/** A first version is measured by its bytes, a later one by the entries looked at, of which most are as they were. */
function withTotals(
  { phase, files, bytes, seen }: ImportProgress,
  head: Version | undefined,
  total: TreeCount | undefined,
): ProgressState {
  const label = phase === 'writing' ? 'Writing' : phase === 'listing' ? 'Listing' : 'Importing';
  if (head !== undefined) return { phase: label, files: seen, totalFiles: head.entries, bytes };
  return { phase: label, files, bytes, totalFiles: total?.files, totalBytes: total?.bytes };
}
