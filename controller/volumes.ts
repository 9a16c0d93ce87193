import { guardPublish } from '../dataset/collect/guard.ts';
import type { Digest } from '../dataset/digest.ts';
import { ConflictError, InvalidError, UnavailableError } from '../dataset/errors.ts';
import { resolveName } from '../dataset/refs.ts';
import type { Repository } from '../dataset/repository.ts';
import { readVersion } from '../dataset/version.ts';
import { VolumeHeldError, type VolumeSettings } from '../dataset/volume-terms.ts';
import { faultPoint } from '../system/fault.ts';
import { keptBranch, makeBranch } from './branches.ts';
import { type CapacityRange, fitsRange, pinnedCapacity, workspaceCapacity } from './capacity.ts';
import type { NodeObserver } from './nodes.ts';
import { type Source, sourceName } from './parameters.ts';
import { defaultSettings, SETTING_CHOICES } from './settings.ts';
import {
  encodeVolume,
  isSlot,
  newVolumeId,
  slotOf,
  slotOfId,
  type Volume,
  type VolumeKind,
  type VolumeSource,
  volumeKey,
} from './volume.ts';
import { findVolume, readSlot, readVolume, removeRecord } from './volume-store.ts';

export { changeVolume, readVolume } from './volume-store.ts';

export interface VolumeRequest {
  readonly name: string;
  readonly kind: VolumeKind;
  /** May be absent where there is an `origin`, whose dataset it must name if not. Its reference is looked at only where there is none. */
  readonly source?: Source;
  /** `{ retention: 'drop' }` if not said. */
  readonly settings?: VolumeSettings;
  readonly capacity: CapacityRange;
  /** What the volume is a restored snapshot or a clone of. */
  readonly origin?: Origin;
}

/**
 * Another volume, whose content is the version that its record has (what its holder has not saved is not in the clone), or a snapshot, with
 * what its record names.
 */
export type Origin =
  | { readonly kind: 'volume'; readonly id: string }
  | {
      readonly kind: 'snapshot';
      readonly id: string;
      readonly dataset: string;
      readonly version: Digest;
      /** A restored workspace's room for changes where nobody says how much. */
      readonly capacityBytes?: number;
    };

/** The list cannot go on from there. */
export class PageError extends InvalidError {}

export interface VolumePage {
  readonly volumes: readonly Volume[];
  /** Where the next page starts; absent on the last one. */
  readonly next?: string;
}

/** Volumes on one page where the caller sets no limit: their answer must fit in one gRPC message of 4 MiB. */
export const PAGE_LIMIT = 2000;

/** Records read at once. */
const READERS = 16;

/** How often a deletion is tried that somebody's change overtakes. */
const ATTEMPTS = 5;

/**
 * Records a volume, or finds the one that was recorded under this name. The version that the source or the origin names is looked up the
 * first time only: what a pod reads is settled when its volume is created.
 * Errors: ConflictError where the name has a volume with other properties; NotFoundError for the dataset, the reference or the origin;
 * InvalidError for what does not go together; CapacityError.
 */
export async function createVolume(repository: Repository, request: VolumeRequest): Promise<Volume> {
  const slot = slotOf(request.name);
  const existing = await readSlot(repository.bucket, slot);
  if (existing !== undefined) return sameAs(existing.volume, request);

  const volume = await newVolume(repository, request);
  try {
    const put = () => repository.bucket.put(volumeKey(slot), encodeVolume(volume), { condition: 'absent' });
    const undo = async () => {
      const found = await findVolume(repository.bucket, volume.id);
      if (found !== undefined) await removeRecord(repository, found);
    };
    // The record keeps the version: it must be there before a collection takes what no name leads to any more.
    await guardPublish(repository, [{ version: volume.version }], put, { undo });
    faultPoint('create.recorded');
    return volume;
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error;
    // Another controller recorded it between our look and our write: its record counts.
    const first = await readSlot(repository.bucket, slot);
    if (first !== undefined) return sameAs(first.volume, request);
    throw new UnavailableError(`volume ${JSON.stringify(request.name)} was created and deleted meanwhile: try again`, {
      cause: error,
    });
  }
}

async function newVolume(repository: Repository, request: VolumeRequest): Promise<Volume> {
  const { name, kind, origin, capacity, settings = defaultSettings } = request;
  if (settings.follow && kind === 'workspace')
    throw invalid(
      'follow',
      'a workspace has changes to what it was created from: only a pinned volume (ReadOnlyMany) follows',
    );
  if (settings.follow && origin !== undefined)
    throw invalid('follow', `what is made of a ${origin.kind} has no branch to follow: leave it out`);
  const { dataset, version, ref, usual } = await (origin === undefined
    ? resolveSource(repository, request)
    : resolveOrigin(repository, request, origin));
  const capacityBytes =
    kind === 'workspace'
      ? workspaceCapacity(capacity, usual)
      : pinnedCapacity((await readVersion(repository, version)).bytes, capacity);
  const named = ref === undefined ? {} : { ref };
  return {
    id: newVolumeId(name),
    name,
    kind,
    dataset,
    ...named,
    base: version,
    version,
    capacityBytes,
    asked: { ...named, capacityBytes, settings },
    settings,
    ...(origin !== undefined && { source: { kind: origin.kind, id: origin.id } }),
    generation: 0,
    created: new Date().toISOString(),
  };
}

interface Resolved {
  readonly dataset: string;
  readonly version: Digest;
  readonly ref?: string;
  /** A workspace's room where nobody says how much. */
  readonly usual?: number;
}

async function resolveSource(repository: Repository, { source, settings }: VolumeRequest): Promise<Resolved> {
  if (source === undefined) throw invalid('dataset', 'it is missing');
  const { kind, version } = await resolveName(repository, sourceName(source));
  if (settings?.follow && kind === 'version') throw notToFollow(source);
  return { ...source, version };
}

/** Errors: InvalidError where what is to be followed cannot move. */
export function notToFollow(source: Source): InvalidError {
  return invalid(
    'follow',
    `${sourceName(source)} is one version, which never moves: name a branch or a tag, or leave it out`,
  );
}

async function resolveOrigin(
  repository: Repository,
  { kind, source }: VolumeRequest,
  origin: Origin,
): Promise<Resolved> {
  const from = origin.kind === 'snapshot' ? origin : await readVolume(repository, origin.id);
  const { dataset, version } = from;
  if (source !== undefined && source.dataset !== dataset)
    throw invalid(
      'dataset',
      `the ${origin.kind} is of '${dataset}', not of '${source.dataset}': name that, or leave it out`,
    );
  const isLike = from.kind !== 'pinned' && kind === 'workspace';
  return { dataset, version, ...(isLike && from.capacityBytes !== undefined && { usual: from.capacityBytes }) };
}

function invalid(parameter: string, fault: string): InvalidError {
  return new InvalidError(`parameter ${JSON.stringify(parameter)}: ${fault}`, { facts: { parameter } });
}

/**
 * Removes a volume's record; that there is none is no error. Where its settings say `keep`, its content has a branch before.
 * @param options.nodes tells whether the node that holds it is alive; without it, every holder counts as alive
 * @param options.discard drops what this process keeps of it, once nobody holds it and before its record goes: a deletion that is refused
 * takes nothing away, and one that is cut short is repeated
 * @returns the branch that has its content
 * Errors: VolumeHeldError while a node holds it, or still saves to it, and gives signs of life; ConflictError where somebody changes it at
 * the same time.
 */
export async function deleteVolume(
  repository: Repository,
  id: string,
  options: { readonly nodes?: Pick<NodeObserver, 'look'>; readonly discard?: (id: string) => Promise<void> } = {},
): Promise<{ readonly branch?: string }> {
  for (let attempt = 1; ; attempt++) {
    const found = await findVolume(repository.bucket, id);
    if (found !== undefined) await refuseHeld(found.volume, options.nodes);
    // Ids that are no volumes' may be names of something else that a node keeps.
    if (slotOfId(id) !== undefined) await options.discard?.(id);
    faultPoint('delete.discarded');
    if (found === undefined) return {};
    const { dataset, name, version, settings } = found.volume;
    const branch =
      settings.retention === 'keep' ? await makeBranch(repository, dataset, keptBranch(name), version) : undefined;
    faultPoint('delete.branch-made');
    try {
      await removeRecord(repository, found);
      faultPoint('delete.record-removed');
      return branch === undefined ? {} : { branch };
    } catch (error) {
      if (!(error instanceof ConflictError) || attempt >= ATTEMPTS) throw error;
    }
  }
}

/** What a node that is gone did not save, it sets aside when it comes back: a record is not needed for that. */
async function refuseHeld(volume: Volume, nodes: Pick<NodeObserver, 'look'> | undefined): Promise<void> {
  const { id, name, holder } = volume;
  if (holder === undefined) return;
  const freshFor = nodes === undefined ? undefined : await nodes.look(holder);
  if (freshFor === 0) return;
  const what = holder.unsaved
    ? `node ${holder.node} is still saving its last changes: try again when it has`
    : `it is in use on node ${holder.node} since ${holder.since}: try again when it is unstaged there`;
  const until =
    freshFor === undefined ? '' : `, or when nothing was heard of that node for ${Math.ceil(freshFor / 1000)} s more`;
  throw new VolumeHeldError(`volume ${JSON.stringify(name)} (${id}) is not deleted, ${what}${until}`, {
    facts: { volume: id, node: holder.node, unsaved: holder.unsaved === true },
  });
}

/**
 * Volumes in the order of their ids, from after `page.after` on: an earlier page's `next`, which stays valid when volumes are
 * deleted.
 * Errors: PageError where `after` is no page's end.
 */
export async function listVolumes(
  { bucket }: Pick<Repository, 'bucket'>,
  page: { readonly after?: string; readonly limit?: number } = {},
): Promise<VolumePage> {
  const { after, limit = PAGE_LIMIT } = page;
  if (after !== undefined && !isSlot(after))
    throw new PageError(`no page of volumes starts at ${JSON.stringify(after)}: list from the start`);
  const slots: string[] = [];
  for await (const { key } of bucket.list(volumeKey(''), { after: after && volumeKey(after) })) {
    // One more than fits tells that there is a next page.
    if (slots.push(key.slice(volumeKey('').length)) > limit) break;
  }
  const shown = slots.slice(0, limit);
  const volumes: Volume[] = [];
  for (let i = 0; i < shown.length; i += READERS) {
    const found = await Promise.all(shown.slice(i, i + READERS).map((slot) => readSlot(bucket, slot)));
    // One that was deleted since the listing is not in the list.
    volumes.push(...found.flatMap((each) => (each === undefined ? [] : [each.volume])));
  }
  return slots.length > limit ? { volumes, next: shown.at(-1) as string } : { volumes };
}

function sameAs(volume: Volume, request: VolumeRequest): Volume {
  const differing = differenceOf(volume, request);
  if (differing === undefined) return volume;
  throw new ConflictError(
    `volume ${JSON.stringify(volume.name)} exists (${volume.id}), and ${differing}: choose another name, or delete it first`,
    { facts: { volume: volume.id, name: volume.name } },
  );
}

/**
 * What a request asks for that the volume was not made as, in words; undefined where it is the same. What has changed since is nothing to
 * those who ask again.
 */
export function differenceOf(
  volume: Volume,
  request: Omit<VolumeRequest, 'name' | 'origin'> & { readonly origin?: VolumeSource },
): string | undefined {
  const { kind, source, origin, capacity, settings = defaultSettings } = request;
  if (volume.kind !== kind) return `it is a ${volume.kind}, not a ${kind} (the access modes say which)`;
  const from = originName(volume.source);
  if (from !== originName(origin)) return `it was made from ${from}, not from ${originName(origin)}`;
  const made = { dataset: volume.dataset, ...(volume.asked.ref !== undefined && { ref: volume.asked.ref }) };
  // Of a restored volume the reference was not looked at.
  const asked = origin === undefined ? source : source && { dataset: source.dataset };
  if (asked !== undefined && sourceName(made) !== sourceName(asked))
    return `it was made from ${sourceName(made)}, not ${sourceName(asked)}`;
  const changed = differingSetting(volume.asked.settings, settings);
  if (changed !== undefined) return changed;
  if (!fitsRange(volume.asked.capacityBytes, capacity))
    return `it was made with ${volume.asked.capacityBytes} bytes, outside of what is asked for`;
  return undefined;
}

/** The first setting that is not the same, in words; undefined where all are. */
export function differingSetting(has: VolumeSettings, asked: VolumeSettings): string | undefined {
  for (const key of Object.keys(SETTING_CHOICES) as (keyof VolumeSettings)[]) {
    if (has[key] !== asked[key])
      return `its ${key} is ${has[key] ?? 'the default'}, not ${asked[key] ?? 'the default'}`;
  }
  return undefined;
}

function originName(origin: VolumeSource | undefined): string {
  return origin === undefined ? 'a dataset' : `${origin.kind} ${JSON.stringify(origin.id)}`;
}
