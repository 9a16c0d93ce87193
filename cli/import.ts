import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { shortId } from '../dataset/digest.ts';
import { ConflictError, InvalidError, isErrno, NotFoundError } from '../dataset/errors.ts';
import { type ImportProgress, importDirectory } from '../dataset/import.ts';
import { resolveOrigins } from '../dataset/lineage.ts';
import { parseMeta } from '../dataset/meta.ts';
import { DEFAULT_BRANCH, LATEST, validateName } from '../dataset/names.ts';
import { parseDatasetName, readBranch, readTag, writeTag } from '../dataset/refs.ts';
import type { Repository } from '../dataset/repository.ts';
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

/** The absolute path of a source that can be imported; what cannot be yet is refused in plain words. */
export async function sourceDirectory(source: string): Promise<string> {
  if (/^[a-z0-9]+:\/\//i.test(source)) {
    throw new InvalidError(`importing from ${source.split('://', 1)[0]}:// is not there yet: give a directory`);
  }
  const path = resolve(source);
  try {
    if ((await stat(path)).isDirectory()) return path;
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
    throw new NotFoundError(`there is no directory '${source}'`, { cause: error, facts: { source } });
  }
  if (source === '-' || /\.(?:tar|tgz|tar\.\w+)$/i.test(source)) {
    throw new InvalidError(`importing a tar is not there yet: unpack '${source}', and import the directory`);
  }
  throw new InvalidError(`'${source}' is not a directory`, { facts: { source } });
}

/** Makes a version of `source` (an absolute path), prints its id, and what it took. */
export async function runImport(
  { environment, output, signal }: Session,
  repository: Repository,
  source: string,
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
  await using count = progress.visible && head === undefined ? countTree(source) : undefined;
  const result = await importDirectory({
    repository,
    source,
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
  const { version, read, stored, skipped } = result;
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
    skipped,
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
  const label = phase === 'writing' ? 'Writing' : 'Importing';
  if (head !== undefined) return { phase: label, files: seen, totalFiles: head.entries, bytes };
  return { phase: label, files, bytes, totalFiles: total?.files, totalBytes: total?.bytes };
}
