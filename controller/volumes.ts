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
import { newId } from './record-kind.ts';
import type { PageRequest } from './record-store.ts';
import { defaultSettings, SETTING_CHOICES } from './settings.ts';
import { type Volume, type VolumeKind, type VolumeSource, volumeRecords, volumeSlot } from './volume.ts';
import { readVolume, volumeStore } from './volume-store.ts';

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

export interface VolumePage {
  readonly volumes: readonly Volume[];
  /** Where the next page starts; absent on the last one. */
  readonly next?: string;
}

/** How often a deletion is tried that somebody's change overtakes. */
const ATTEMPTS = 5;

/**
 * Records a volume, or finds the one that was recorded under this name. The version that the source or the origin names is looked up the
 * first time only: what a pod reads is settled when its volume is created.
 * Errors: ConflictError where the name has a volume with other properties; NotFoundError for the dataset, the reference or the origin;
 * InvalidError for what does not go together; CapacityError.
 */
export async function createVolume(repository: Repository, request: VolumeRequest): Promise<Volume> {
  const store = volumeStore(repository);
  const slot = volumeSlot(request.name);
  const existing = await store.at(slot);
  if (existing !== undefined) return sameAs(existing.record, request);

  const volume = await newVolume(repository, request);
  if (await store.add(volume)) {
    faultPoint('create.recorded');
    return volume;
  }
  // Another controller recorded it between our look and our write: its record counts.
  const first = await store.at(slot);
  if (first !== undefined) return sameAs(first.record, request);
  throw new UnavailableError(`volume ${JSON.stringify(request.name)} was created and deleted meanwhile: try again`);
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
    id: newId(volumeSlot(name)),
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
  const store = volumeStore(repository);
  for (let attempt = 1; ; attempt++) {
    const found = await store.find(id);
    if (found !== undefined) await refuseHeld(found.record, options.nodes);
    // Ids that are no volumes' may be names of something else that a node keeps.
    if (volumeRecords.slotOfId(id) !== undefined) await options.discard?.(id);
    faultPoint('delete.discarded');
    if (found === undefined) return {};
    const { dataset, name, version, settings } = found.record;
    const branch =
      settings.retention === 'keep' ? await makeBranch(repository, dataset, keptBranch(name), version) : undefined;
    faultPoint('delete.branch-made');
    try {
      await store.remove(found);
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

/** Volumes in the order of their ids. Errors: PageError where `page.after` is no page's end. */
export async function listVolumes(repository: Repository, page: PageRequest = {}): Promise<VolumePage> {
  const { found: volumes, ...rest } = await volumeStore(repository).page(page, (volume) => volume);
  return { volumes, ...rest };
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
