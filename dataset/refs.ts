import type { PutOptions } from './bucket/bucket.ts';
import { readObject } from './bucket/read-object.ts';
import { guardPublish, type SweepMark } from './collect/guard.ts';
import { type Digest, shortId } from './digest.ts';
import { ConflictError, InvalidError, NotFoundError } from './errors.ts';
import { decodeRef, encodeRef, REF_LIMIT, type Ref } from './format/ref-json.ts';
import { DATASETS, type RefKind, refKey, refsPrefix } from './keys.ts';
import { DEFAULT_BRANCH, LATEST, nearestName, unescapeName, validateName } from './names.ts';
import { mayBeRelated } from './related.ts';
import type { Repository } from './repository.ts';
import { versionsWithPrefix } from './version.ts';

/** A branch or a tag as it was when it was read. */
export interface StoredRef {
  readonly name: string;
  readonly version: Digest;
  /** When it got this version: ISO 8601 in UTC. */
  readonly moved: string;
  /** `merge`: the branch moves only by a merge, and is not deleted. Tags have none. */
  readonly protect?: 'merge';
  /** For `moveBranch`'s `expect`. */
  readonly etag: string;
}

/** How a name is kept apart from a collection that deletes at the same time (collect/guard.ts). */
export interface Guarding {
  /** What `markSweeps` gave before anything of the version was found stored; without it, a version that is there counts as whole. */
  readonly since?: SweepMark;
  /** The caller is inside `guardPublish` already. */
  readonly isGuarded?: boolean;
}

/** Why a branch moves. A protected one moves by `merge`, and by `force`, which is for those who said that they mean it. */
export type MoveVia = 'commit' | 'merge' | 'force';

/** The shortest prefix of a version id that names it. */
const PREFIX_MINIMUM = 4;

/** The branch's head; undefined where there is no such branch. */
export async function readBranch(
  repository: Repository,
  dataset: string,
  branch: string,
): Promise<StoredRef | undefined> {
  return await readRef(repository, dataset, 'branch', branch);
}

export async function readTag(repository: Repository, dataset: string, tag: string): Promise<StoredRef | undefined> {
  return await readRef(repository, dataset, 'tag', tag);
}

/**
 * Makes `version` the branch's head if the branch is still as `expect` says; a ConflictError otherwise, and where it is protected and does
 * not move by a merge. A branch is made by `expect: 'absent'`. A protected branch stays one.
 * @param options.expect the branch as it was read, which saves reading it again, or its ETag
 * @param options.via `commit` if not said
 */
export async function moveBranch(
  repository: Repository,
  dataset: string,
  branch: string,
  options: { readonly expect: StoredRef | string; readonly version: Digest; readonly via?: MoveVia } & Guarding,
): Promise<StoredRef> {
  validateName('dataset', dataset);
  validateName('branch', branch);
  const { expect, version, via } = options;
  const isNew = expect === 'absent';
  // Asked while the rest is: it is heard before the branch is written.
  const isFree = isNew ? refuseOther(repository, dataset, 'tag', branch) : Promise.resolve();
  isFree.catch(() => {});
  const before =
    typeof expect !== 'string' ? expect : isNew ? undefined : await readBranch(repository, dataset, branch);
  refuseProtected(dataset, branch, before, via);
  const protect = before?.protect && { protect: before.protect };
  const moved = new Date().toISOString();
  const condition = expect === 'absent' ? expect : { etag: typeof expect === 'string' ? expect : expect.etag };
  try {
    const key = refKey(dataset, 'branch', branch);
    const etag = await putRef(
      repository,
      key,
      { version, moved, ...protect },
      { condition, before, isFree, guarding: options },
    );
    return { name: branch, version, moved, ...protect, etag };
  } catch (error) {
    await isFree;
    if (!(error instanceof ConflictError)) throw error;
    throw await movedMeanwhile(repository, dataset, branch, isNew, error);
  }
}

async function putRef(
  repository: Repository,
  key: string,
  ref: Ref,
  options: {
    readonly condition: PutOptions['condition'];
    readonly before?: StoredRef;
    /** What must have come to pass before the name is given. */
    readonly isFree: Promise<void>;
    readonly guarding: Guarding;
  },
): Promise<string> {
  const { bucket } = repository;
  const { condition, before, isFree, guarding } = options;
  let etag = '';
  const put = async () => {
    await isFree;
    etag = await bucket.put(key, encodeRef(ref), { condition });
    return etag;
  };
  if (guarding.isGuarded) return await put();
  const undo = async () => {
    if (before === undefined) await bucket.delete(key, { ifMatch: etag });
    else await bucket.put(key, encodeRef(before), { condition: { etag } });
  };
  return await guardPublish(repository, [{ version: ref.version }], put, { since: guarding.since, undo });
}

async function movedMeanwhile(
  repository: Repository,
  dataset: string,
  branch: string,
  isNew: boolean,
  cause: ConflictError,
): Promise<ConflictError> {
  const now = await readBranch(repository, dataset, branch);
  const is = now === undefined ? 'was deleted' : `is now at version ${shortId(now.version)}`;
  const what = isNew ? `exists already, and ${is}` : `was changed by someone else, and ${is}`;
  return new ConflictError(`branch '${branch}' of dataset '${dataset}' ${what}; start again from there`, {
    cause,
    facts: { dataset, branch, version: now?.version },
  });
}

/** A ConflictError where a branch as it was read does not move in this way: one that is protected, by anything but a merge. */
export function refuseProtected(
  dataset: string,
  branch: string,
  ref: StoredRef | undefined,
  via: MoveVia = 'commit',
): void {
  if (ref?.protect === undefined || via !== 'commit') return;
  throw new ConflictError(
    `branch '${branch}' of dataset '${dataset}' is protected and moves only by a merge: make the version on another branch ` +
      `('larder branch create ${dataset}@${branch} BRANCH') and 'larder merge' it, or lift the protection with 'larder branch unprotect ${dataset}@${branch}'`,
    { facts: { dataset, branch, protected: true } },
  );
}

/**
 * Protects a branch, or lifts its protection: it then moves only by a merge, and is not deleted.
 * @param protect undefined lifts it
 */
export async function protectBranch(
  repository: Repository,
  dataset: string,
  branch: string,
  protect: 'merge' | undefined,
): Promise<StoredRef> {
  const before = await readBranch(repository, dataset, branch);
  if (before === undefined) throw await noRef(repository, dataset, 'branch', branch);
  if (before.protect === protect) return before;
  const { version, moved } = before;
  const ref: Ref = { version, moved, ...(protect && { protect }) };
  try {
    const condition = { etag: before.etag };
    const etag = await repository.bucket.put(refKey(dataset, 'branch', branch), encodeRef(ref), { condition });
    return { name: branch, ...ref, etag };
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error;
    throw await movedMeanwhile(repository, dataset, branch, false, error);
  }
}

/** Names a version. A tag is fixed: a ConflictError where it names another version already, unless `force`. */
export async function writeTag(
  repository: Repository,
  dataset: string,
  tag: string,
  options: { readonly version: Digest; readonly force?: boolean } & Guarding,
): Promise<StoredRef> {
  validateName('dataset', dataset);
  validateName('tag', tag);
  const { version, force = false } = options;
  const isFree = refuseOther(repository, dataset, 'branch', tag);
  isFree.catch(() => {});
  const moved = new Date().toISOString();
  const key = refKey(dataset, 'tag', tag);
  try {
    const before = force ? await readTag(repository, dataset, tag) : undefined;
    const condition = force ? undefined : 'absent';
    const etag = await putRef(repository, key, { version, moved }, { condition, before, isFree, guarding: options });
    return { name: tag, version, moved, etag };
  } catch (error) {
    await isFree;
    if (!(error instanceof ConflictError)) throw error;
    const now = await readTag(repository, dataset, tag);
    if (now?.version === version) return now;
    const is = now === undefined ? 'was just deleted' : `names version ${shortId(now.version)} already`;
    throw new ConflictError(
      `tag '${tag}' of dataset '${dataset}' ${is}; choose another name, or move it on purpose with --force`,
      {
        cause: error,
        facts: { dataset, tag, version: now?.version },
      },
    );
  }
}

/**
 * Removes the name, not the version. With `expect`, only if the branch still has this ETag.
 * @throws ConflictError where the branch is protected
 */
export async function deleteBranch(
  repository: Repository,
  dataset: string,
  branch: string,
  options: { readonly expect?: string } = {},
): Promise<void> {
  await deleteRef(repository, dataset, 'branch', branch, options.expect);
}

export async function deleteTag(repository: Repository, dataset: string, tag: string): Promise<void> {
  await deleteRef(repository, dataset, 'tag', tag);
}

/**
 * Removes every name of a dataset.
 * @param options.force also where a branch is protected
 * @throws NotFoundError where it has no names; ConflictError where a branch of it is protected
 */
export async function deleteDataset(
  repository: Repository,
  dataset: string,
  options: { readonly force?: boolean } = {},
): Promise<void> {
  const tags = await listTags(repository, dataset);
  const branches = await listBranches(repository, dataset);
  if (tags.length + branches.length === 0) throw await noDataset(repository, dataset);
  const kept = branches.find(({ protect }) => protect !== undefined);
  if (kept !== undefined && !options.force)
    throw new ConflictError(
      `branch '${kept.name}' of dataset '${dataset}' is protected: add --force to remove the dataset all the same, or lift the protection first with 'larder branch unprotect ${dataset}@${kept.name}'`,
      { facts: { dataset, branch: kept.name, protected: true } },
    );
  for (const { name } of tags) await repository.bucket.delete(refKey(dataset, 'tag', name));
  for (const { name } of branches) await repository.bucket.delete(refKey(dataset, 'branch', name));
}

/** The names of all datasets that have a branch or a tag, in byte order. */
export async function listDatasets(repository: Repository): Promise<string[]> {
  const names: string[] = [];
  let after = '';
  for (let more = true; more; ) {
    more = false;
    for await (const { key } of repository.bucket.list(DATASETS, { after })) {
      const folder = key.slice(0, key.indexOf('/', DATASETS.length) + 1);
      const name = unescapeName(folder.slice(DATASETS.length, -1));
      if (name !== undefined && name !== '') names.push(name);
      // On with the first key after this folder: '0' is the byte after '/'.
      after = `${folder.slice(0, -1)}0`;
      more = folder !== '';
      break;
    }
  }
  return names.sort();
}

/** In order of their names. */
export async function listBranches(repository: Repository, dataset: string): Promise<StoredRef[]> {
  return await listRefs(repository, dataset, 'branch');
}

/** In order of their names. */
export async function listTags(repository: Repository, dataset: string): Promise<StoredRef[]> {
  return await listRefs(repository, dataset, 'tag');
}

export interface DatasetName {
  readonly dataset: string;
  /** As it was written; undefined for a dataset's name alone. */
  readonly ref: string | undefined;
}

/** Takes `NAME[@REF]` apart and checks the dataset's name. */
export function parseDatasetName(text: string): DatasetName {
  const at = text.indexOf('@');
  const dataset = validateName('dataset', at < 0 ? text : text.slice(0, at));
  const ref = at < 0 ? undefined : text.slice(at + 1);
  if (ref === '')
    throw new InvalidError(`'${text}' has no branch, tag or version after its '@'`, { facts: { name: text } });
  return { dataset, ref };
}

export interface ResolvedName {
  readonly dataset: string;
  /** The branch or tag, or the whole id of the version. */
  readonly ref: string;
  readonly kind: RefKind | 'version';
  readonly version: Digest;
}

/**
 * The version that `NAME[@REF]` means now. REF is a branch, a tag, `latest` (the head of `main`, as is no REF), or the first
 * digits of a version's id: of one that has to do with the dataset, as far as can be told quickly (related.ts). A NotFoundError suggests
 * the nearest name.
 */
export async function resolveName(repository: Repository, name: string): Promise<ResolvedName> {
  const { dataset, ref = LATEST } = parseDatasetName(name);
  const wanted = ref === LATEST ? DEFAULT_BRANCH : ref;
  const isPrefix = /^[0-9a-f]+$/.test(wanted) && wanted.length >= PREFIX_MINIMUM && wanted.length <= 64;
  if (wanted.length < 64 || !isPrefix) {
    for (const kind of ['branch', 'tag'] as const) {
      const found = await readRef(repository, dataset, kind, wanted);
      if (found !== undefined) return { dataset, ref: wanted, kind, version: found.version };
    }
  }
  const branches = await listBranches(repository, dataset);
  const tags = await listTags(repository, dataset);
  if (branches.length + tags.length === 0) throw await noDataset(repository, dataset);
  if (isPrefix) {
    const all = await versionsWithPrefix(repository, wanted, 5);
    const heads = [...branches, ...tags].map(({ version }) => version);
    const ids: Digest[] = [];
    for (const id of all) if (await mayBeRelated(repository, heads, id)) ids.push(id);
    if (ids.length === 0 && all.length > 0)
      throw new NotFoundError(
        `version ${shortId(all[0]!)} is in ${repository.location}, but has nothing in common with dataset '${dataset}': name the dataset that it is of`,
        { facts: { dataset, ref: wanted, version: all[0] } },
      );
    if (ids.length === 1) return { dataset, ref: ids[0]!, kind: 'version', version: ids[0]! };
    if (ids.length > 1)
      throw new InvalidError(
        `several versions begin with ${wanted}: ${ids.map(shortId).join(', ')}; give more digits`,
        {
          facts: { dataset, ref: wanted },
        },
      );
  }
  const names = [...branches, ...tags].map((each) => each.name);
  const nearest = nearestName(wanted, names);
  const help =
    nearest !== undefined
      ? `did you mean '${dataset}@${nearest}'?`
      : `it has ${names.slice(0, 5).join(', ')}${names.length > 5 ? ' and others' : ''}`;
  throw new NotFoundError(`dataset '${dataset}' has no branch, tag or version '${wanted}'; ${help}`, {
    facts: { dataset, ref: wanted, nearest },
  });
}

async function noDataset(repository: Repository, dataset: string): Promise<NotFoundError> {
  const names = await listDatasets(repository);
  const nearest = nearestName(dataset, names);
  const help =
    nearest !== undefined
      ? `did you mean '${nearest}'?`
      : names.length === 0
        ? "the repository is empty; 'larder import' makes a dataset"
        : "'larder list' shows what there is";
  return new NotFoundError(`there is no dataset '${dataset}' in ${repository.location}; ${help}`, {
    facts: { dataset, nearest },
  });
}

/** A branch and a tag of one name would be one word for two things. */
async function refuseOther(repository: Repository, dataset: string, kind: RefKind, name: string): Promise<void> {
  if ((await repository.bucket.head(refKey(dataset, kind, name))) === undefined) return;
  throw new ConflictError(`dataset '${dataset}' has a ${kind} '${name}' already; choose another name`, {
    facts: { dataset, [kind]: name },
  });
}

async function readRef(
  repository: Repository,
  dataset: string,
  kind: RefKind,
  name: string,
): Promise<StoredRef | undefined> {
  try {
    const { bytes, etag } = await readObject(repository.bucket, refKey(dataset, kind, name), REF_LIMIT);
    return { name, ...decodeRef(`${kind} '${name}' of dataset '${dataset}'`, bytes), etag };
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

async function deleteRef(
  repository: Repository,
  dataset: string,
  kind: RefKind,
  name: string,
  expect?: string,
): Promise<void> {
  const found = await readRef(repository, dataset, kind, name);
  if (found === undefined) throw await noRef(repository, dataset, kind, name);
  if (found.protect !== undefined)
    throw new ConflictError(
      `branch '${name}' of dataset '${dataset}' is protected and stays: lift the protection first with 'larder branch unprotect ${dataset}@${name}'`,
      { facts: { dataset, branch: name, protected: true } },
    );
  await repository.bucket.delete(refKey(dataset, kind, name), { ifMatch: expect });
}

async function noRef(repository: Repository, dataset: string, kind: RefKind, name: string): Promise<NotFoundError> {
  const names = (await listRefs(repository, dataset, kind)).map((each) => each.name);
  const nearest = nearestName(name, names);
  const help = nearest === undefined ? '' : `; did you mean '${nearest}'?`;
  return new NotFoundError(`dataset '${dataset}' has no ${kind} '${name}'${help}`, {
    facts: { dataset, [kind]: name, nearest },
  });
}

async function listRefs(repository: Repository, dataset: string, kind: RefKind): Promise<StoredRef[]> {
  const prefix = refsPrefix(dataset, kind);
  const refs: StoredRef[] = [];
  for await (const { key } of repository.bucket.list(prefix)) {
    const name = unescapeName(key.slice(prefix.length));
    const found = name === undefined ? undefined : await readRef(repository, dataset, kind, name);
    if (found !== undefined) refs.push(found);
  }
  return refs.sort((a, b) => (a.name < b.name ? -1 : 1));
}
