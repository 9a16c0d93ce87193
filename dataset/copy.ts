import { openChunkIndex } from './chunk-index.ts';
import { guardPublish, isCollected, markSweeps } from './collect/guard.ts';
import { type CarriedTotals, ChunkCarrier, putIfAbsent } from './copy/chunk-carrier.ts';
import { isAncestor, type MissingVersion, planHistory } from './copy/history.ts';
import { carryManifest } from './copy/manifest.ts';
import { SourceCarrier } from './copy/source-carrier.ts';
import { type Digest, shortId } from './digest.ts';
import { ConflictError, InvalidError } from './errors.ts';
import { type RefKind, versionKey } from './keys.ts';
import type { Manifest } from './new-leaves.ts';
import {
  deleteBranch,
  deleteTag,
  listBranches,
  listTags,
  moveBranch,
  readBranch,
  readTag,
  resolveName,
  type StoredRef,
  writeTag,
} from './refs.ts';
import type { Repository } from './repository.ts';
import { markCut, markShallow, readCut, unmarkCut } from './shallow.ts';
import { readVersion } from './version.ts';

/** How often it is begun again where a collection has deleted parts of what was copied. */
const ATTEMPTS = 3;

export interface CopyOptions {
  readonly from: Repository;
  readonly to: Repository;
  readonly dataset: string;
  /** A branch, a tag, or the beginning of a version's id; the head of `main` if not said. */
  readonly ref?: string;
  /** What the target calls it; the same if not said. A version that was asked for by its id needs a branch. */
  readonly as?: { readonly dataset?: string; readonly branch?: string };
  /** Only so many generations of versions, the last one among them; all if not said. */
  readonly depth?: number;
  /** Let the target's branch go to a version that does not follow from its head, and its tag to another version. */
  readonly force?: boolean;
  readonly onProgress?: (progress: CopyProgress) => void;
  readonly signal?: AbortSignal;
}

export interface CopyProgress {
  readonly phase: string;
  /** Versions stored in the target so far, of those that it lacked. */
  readonly versions: number;
  readonly totalVersions: number;
  /** Bytes of chunks sent, as they are stored. */
  readonly bytes: number;
}

export interface CopyResult {
  readonly dataset: string;
  readonly kind: RefKind;
  readonly name: string;
  readonly version: Digest;
  /** `created`: the target had no such name; `moved`: it named another version; `unchanged`: it named this one. */
  readonly outcome: 'created' | 'moved' | 'unchanged';
  /** What the name meant before. */
  readonly before: Digest | undefined;
  /** Versions that were stored. */
  readonly versions: number;
  readonly sent: Readonly<CarriedTotals>;
}

/**
 * Carries a version, with its history, to another repository: only what that lacks; all ids stay the same. What a copy that was stopped had
 * sent is not sent again. In the target, packs come first, then locations, leaves, the segments above them, each version after its parents,
 * and at last the branch or tag.
 *
 * A branch moves by compare-and-swap, and only forward: a ConflictError where the target's head is not in the history of the version, or its tag
 * names another one. A CorruptError names what is damaged in the source.
 */
export async function copyVersions(options: CopyOptions): Promise<CopyResult> {
  const { from, to, depth } = options;
  refuseSame(from, to);
  if (depth !== undefined && !(Number.isInteger(depth) && depth >= 1))
    throw new InvalidError(`a depth of ${depth} cannot be copied: it is a number of versions, at least 1`);
  const found = await resolveName(
    from,
    options.ref === undefined ? options.dataset : `${options.dataset}@${options.ref}`,
  );
  const target = targetOf(options, found.kind, found.ref);
  const before = await readTarget(to, target);
  await refuseTarget(options, target, before, found.version);

  for (let attempt = 1; ; attempt++)
    try {
      return await copyTo(options, found.version, target, before);
    } catch (error) {
      // What a collection has deleted meanwhile is sent again.
      if (!isCollected(error) || attempt === ATTEMPTS) throw error;
    }
}

async function copyTo(
  options: CopyOptions,
  version: Digest,
  target: Target,
  before: StoredRef | undefined,
): Promise<CopyResult> {
  const { to, signal, force = false } = options;
  const since = await markSweeps(to, signal);
  const { sent, copied, boundary } = await carryHistory(options, version, before);
  const outcome = before === undefined ? 'created' : before.version === version ? 'unchanged' : 'moved';
  if (outcome !== 'unchanged' || copied.length > 0) {
    const what = [...new Set([...copied, ...boundary, version])].map((each) => ({ version: each }));
    let named: StoredRef | undefined;
    const publish = async () => {
      if (outcome !== 'unchanged') named = await writeName(to, target, version, before, force);
    };
    const undo = async () => {
      if (named !== undefined) await takeBack(to, target, named, before);
    };
    await guardPublish(to, what, publish, { since, undo, signal });
  }
  return { ...target, version, outcome, before: before?.version, versions: copied.length, sent };
}

/** Carries every branch and tag of a dataset, branches first; what the source has no name for stays in the target as it is. */
export async function* copyNames(options: Omit<CopyOptions, 'ref'>): AsyncGenerator<CopyResult> {
  const { from, dataset, as } = options;
  if (as?.branch !== undefined)
    throw new InvalidError(
      `all branches and tags of '${dataset}' cannot be called '${as.branch}': give a dataset's name`,
    );
  for (const { name } of await listBranches(from, dataset)) yield await copyVersions({ ...options, ref: name });
  for (const { name } of await listTags(from, dataset)) yield await copyVersions({ ...options, ref: name });
}

async function writeName(
  to: Repository,
  { dataset, kind, name }: Target,
  version: Digest,
  before: StoredRef | undefined,
  force: boolean,
): Promise<StoredRef> {
  if (kind === 'tag') return await writeTag(to, dataset, name, { version, force, isGuarded: true });
  // What the source has is taken over: how it came to be was for the source to decide.
  const via = force ? 'force' : 'merge';
  return await moveBranch(to, dataset, name, { expect: before ?? 'absent', version, via, isGuarded: true });
}

/** Gives a name back what it meant, or takes it away. */
async function takeBack(
  to: Repository,
  { dataset, kind, name }: Target,
  named: StoredRef,
  before: StoredRef | undefined,
): Promise<void> {
  if (kind === 'branch' && before !== undefined) {
    const options = { expect: named, version: before.version, via: 'force', isGuarded: true } as const;
    await moveBranch(to, dataset, name, options);
  } else if (kind === 'branch') await deleteBranch(to, dataset, name, { expect: named.etag });
  else if (before === undefined) await deleteTag(to, dataset, name);
  else await writeTag(to, dataset, name, { version: before.version, force: true, isGuarded: true });
}

interface Target {
  readonly dataset: string;
  readonly kind: RefKind;
  readonly name: string;
}

function refuseSame(from: Repository, to: Repository): void {
  if (from.location !== to.location) return;
  throw new InvalidError(
    `${to.location} is the repository that would be copied from: 'larder branch create' and 'larder tag create' name versions in it`,
    { facts: { repository: to.location } },
  );
}

function targetOf({ dataset, as }: CopyOptions, kind: RefKind | 'version', ref: string): Target {
  const into = as?.dataset ?? dataset;
  if (as?.branch !== undefined) return { dataset: into, kind: 'branch', name: as.branch };
  if (kind !== 'version') return { dataset: into, kind, name: ref };
  throw new InvalidError(
    `version ${shortId(ref as Digest)} was asked for by its id, and would have no name in the target: add --as ${into}@BRANCH`,
    { facts: { dataset, version: ref } },
  );
}

async function readTarget(to: Repository, { dataset, kind, name }: Target): Promise<StoredRef | undefined> {
  return kind === 'tag' ? await readTag(to, dataset, name) : await readBranch(to, dataset, name);
}

/** Before anything is sent: what cannot be named in the end. */
async function refuseTarget(
  { from, to, force, signal }: CopyOptions,
  { dataset, kind, name }: Target,
  before: StoredRef | undefined,
  version: Digest,
): Promise<void> {
  if (force || before === undefined || before.version === version) return;
  if (kind === 'branch' && (await isAncestor(from, before.version, version, signal))) return;
  const facts = { dataset, [kind]: name, version: before.version };
  if (kind === 'tag')
    throw new ConflictError(
      `tag '${name}' of dataset '${dataset}' names version ${shortId(before.version)} in ${to.location}, and ${shortId(version)} in ${from.location}; ` +
        'a tag is meant to stay: add --force to move it all the same',
      { facts },
    );
  const isBehind = await isAncestor(to, version, before.version, signal);
  throw new ConflictError(
    `branch '${name}' of dataset '${dataset}' is at version ${shortId(before.version)} in ${to.location}, ` +
      (isBehind
        ? `which follows from ${shortId(version)}: the target is ahead; copy the other way, or add --force to take it back`
        : `which version ${shortId(version)} does not follow from; copy it as another branch (--as ${dataset}@BRANCH) and merge the two there, or add --force to ` +
          'drop what the target has'),
    { facts },
  );
}

async function carryHistory(
  { from, to, depth, onProgress, signal }: CopyOptions,
  tip: Digest,
  head: StoredRef | undefined,
): Promise<{ readonly sent: CarriedTotals; readonly copied: readonly Digest[]; readonly boundary: readonly Digest[] }> {
  onProgress?.({ phase: 'comparing', versions: 0, totalVersions: 0, bytes: 0 });
  const shallow = await readCut(to, signal);
  const { missing, boundary, healed } = await planHistory({ from, to, tip, shallow, depth, signal });
  const fallback = missing.some(({ base }) => base === undefined) ? await manifestOf(to, head, signal) : undefined;

  using index = openChunkIndex(to);
  let versions = 0;
  const carrier = new ChunkCarrier({
    from,
    to,
    index,
    isIndexKept: (missing[0]?.base ?? fallback) !== undefined,
    onBytes: () => report(),
    signal,
  });
  const report = () =>
    onProgress?.({ phase: 'copying', versions, totalVersions: missing.length, bytes: carrier.totals.bytes });
  const sources = new SourceCarrier(from, to, signal);
  for (const each of missing) {
    report();
    const base = each.base ? { repository: from, root: each.base.root } : fallback;
    await carryManifest({ from, to, root: each.version.root, base, carrier, sources, signal });
    await publish(to, each, signal);
    versions += 1;
  }
  report();
  for (const id of healed) await unmarkCut(to, id, signal);
  return { sent: carrier.totals, copied: missing.map(({ version }) => version.id), boundary };
}

async function publish(to: Repository, { version, object, cut }: MissingVersion, signal?: AbortSignal): Promise<void> {
  if (cut === 'depth') await markCut(to, version.id, signal);
  if (cut === 'absent') await markShallow(to, version.id, signal);
  signal?.throwIfAborted();
  await putIfAbsent(to, versionKey(version.id), object, signal);
}

/** What most of a version is likely to be like, where none of its parents is in the target. */
async function manifestOf(
  to: Repository,
  head: StoredRef | undefined,
  signal: AbortSignal | undefined,
): Promise<Manifest | undefined> {
  return head && { repository: to, root: (await readVersion(to, head.version, signal)).root };
}
