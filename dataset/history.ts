import type { ByteString } from './byte-string.ts';
import { type DifferenceKind, differenceOf, diffVersions } from './diff.ts';
import type { Digest } from './digest.ts';
import type { Entry } from './entry.ts';
import { findEntry } from './manifest.ts';
import type { Repository } from './repository.ts';
import { findVersion, readVersion, type Version } from './version.ts';

/**
 * A version and all that lead to it, each once; each after the one that it was found from, and otherwise newest first. Where a parent was
 * collected, or left out of a copy, the history ends.
 * @param onMissing told of each version that is named as a parent and not there, and of the one that names it
 */
export async function* log(
  repository: Repository,
  version: Digest,
  signal?: AbortSignal,
  onMissing?: (missing: Digest, child: Version) => void,
): AsyncGenerator<Version> {
  const met = new Set([version]);
  const ready = [await readVersion(repository, version, signal)];
  for (let next = ready.shift(); next !== undefined; next = ready.shift()) {
    signal?.throwIfAborted();
    yield next;
    for (const parent of next.parents) {
      if (met.has(parent)) continue;
      met.add(parent);
      const before = await findVersion(repository, parent, signal);
      if (before === undefined) onMissing?.(parent, next);
      else ready.push(before);
    }
    ready.sort((a, b) => (a.time < b.time ? 1 : a.time > b.time ? -1 : 0));
  }
}

export interface PathChange {
  readonly version: Version;
  readonly change: DifferenceKind;
  /** As it is in that version; undefined where it was removed. */
  readonly entry: Entry | undefined;
}

/**
 * The versions that changed a path, newest first: those in which it differs from all of their parents. A directory changed where anything
 * below it did. Where history ends early, all that is in the oldest version counts as added by it.
 */
export async function* pathHistory(
  repository: Repository,
  version: Digest,
  path: ByteString,
  signal?: AbortSignal,
): AsyncGenerator<PathChange> {
  for await (const each of log(repository, version, signal)) {
    const entry = await findEntry(repository, each.root, path, signal);
    let change: DifferenceKind | undefined = entry === undefined ? undefined : 'added';
    for (const id of each.parents) {
      const parent = await findVersion(repository, id, signal);
      if (parent === undefined) continue;
      change = await changeOf(repository, parent.root, each.root, path, entry, signal);
      // A merge that took one side as it was changed nothing.
      if (change === undefined) break;
    }
    if (change !== undefined) yield { version: each, change, entry };
  }
}

async function changeOf(
  repository: Repository,
  before: Digest,
  after: Digest,
  path: ByteString,
  entry: Entry | undefined,
  signal: AbortSignal | undefined,
): Promise<DifferenceKind | undefined> {
  if (before === after) return undefined;
  const old = await findEntry(repository, before, path, signal);
  if (old === undefined) return entry === undefined ? undefined : 'added';
  if (entry === undefined) return 'removed';
  const kind = differenceOf(old, entry);
  if (old.type !== 'directory' || entry.type !== 'directory') return kind;
  for await (const { path: at } of diffVersions(repository, before, after, { prefix: path, ahead: 0, signal }))
    if (at !== path) return 'modified';
  return kind;
}
