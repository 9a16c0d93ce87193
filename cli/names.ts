import { type Digest, shortId } from '../dataset/digest.ts';
import { NotFoundError } from '../dataset/errors.ts';
import { nearestName, validateName } from '../dataset/names.ts';
import { listBranches, listDatasets, listTags, readTag, type StoredRef } from '../dataset/refs.ts';
import type { Repository } from '../dataset/repository.ts';
import { readVersion } from '../dataset/version.ts';
import { subjectOf } from './describe.ts';
import { formatBytes, formatCount, formatDate } from './format.ts';
import type { Session } from './session.ts';
import { type Column, formatTable } from './table.ts';

/** For each version that a branch or a tag of `dataset` names: `main`, `tag: v16`. */
export async function namesOfVersions(repository: Repository, dataset: string): Promise<Map<Digest, string[]>> {
  const names = new Map<Digest, string[]>();
  const add = (version: Digest, name: string) => names.set(version, [...(names.get(version) ?? []), name]);
  for (const branch of await listBranches(repository, dataset)) add(branch.version, branch.name);
  for (const tag of await listTags(repository, dataset)) add(tag.version, `tag: ${tag.name}`);
  return names;
}

const COLUMNS: readonly Column[] = [
  { title: 'VERSION' },
  { title: 'ENTRIES', align: 'right' },
  { title: 'SIZE', align: 'right' },
  { title: 'WHEN' },
  { title: 'MESSAGE' },
];

/** Prints branches, tags or snapshots (tags of any dataset): a table, or a document each. */
export async function printNames(
  { output, signal }: Session,
  repository: Repository,
  kind: 'branch' | 'tag' | 'snapshot',
  names: readonly (StoredRef & { readonly dataset: string })[],
): Promise<void> {
  const rows: string[][] = [];
  for (const { dataset, name, version: id, moved, protect } of names) {
    signal.throwIfAborted();
    const { entries, bytes, time, message, author } = await readVersion(repository, id);
    const field = kind === 'branch' ? 'branch' : 'tag';
    const guarded = kind === 'branch' ? { protected: protect !== undefined } : {};
    output.document({ dataset, [field]: name, version: id, moved, ...guarded, entries, bytes, time, author, message });
    const shown = kind === 'snapshot' ? `${dataset}@${name}` : protect ? `${name} (protected)` : name;
    rows.push([shown, shortId(id), formatCount(entries), formatBytes(bytes), formatDate(time), subjectOf(message)]);
  }
  if (rows.length === 0) return;
  for (const line of formatTable([{ title: kind.toUpperCase() }, ...COLUMNS], rows)) output.line(line);
}

/** A NotFoundError with the nearest name where the repository has no such dataset. */
export async function requireDataset(repository: Repository, dataset: string): Promise<void> {
  validateName('dataset', dataset);
  const all = await listDatasets(repository);
  if (all.includes(dataset)) return;
  const nearest = nearestName(dataset, all);
  throw new NotFoundError(
    `there is no dataset '${dataset}' in ${repository.location}${nearest === undefined ? ": 'larder list' shows what there is" : `: did you mean '${nearest}'?`}`,
    { facts: { dataset, nearest } },
  );
}

/** The tag, or a NotFoundError with the nearest one. */
export async function requireTag(repository: Repository, dataset: string, tag: string): Promise<StoredRef> {
  await requireDataset(repository, dataset);
  const found = await readTag(repository, dataset, tag);
  if (found !== undefined) return found;
  const tags = await listTags(repository, dataset);
  const nearest = nearestName(
    tag,
    tags.map(({ name }) => name),
  );
  throw new NotFoundError(
    `dataset '${dataset}' has no tag '${tag}'${nearest === undefined ? `: 'larder tag create' makes one` : `: did you mean '${nearest}'?`}`,
    { facts: { dataset, tag, nearest } },
  );
}

/** A dataset's refs, each with the dataset's name. */
export function ofDataset(dataset: string, refs: readonly StoredRef[]): (StoredRef & { readonly dataset: string })[] {
  return refs.map((ref) => ({ dataset, ...ref }));
}
