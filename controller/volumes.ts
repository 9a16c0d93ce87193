import type { Bucket } from '../dataset/bucket/bucket.ts';
import { readObject } from '../dataset/bucket/read-object.ts';
import { guardPublish } from '../dataset/collect/guard.ts';
import { ConflictError, InvalidError, NotFoundError, UnavailableError } from '../dataset/errors.ts';
import { resolveName } from '../dataset/refs.ts';
import type { Repository } from '../dataset/repository.ts';
import { readVersion } from '../dataset/version.ts';
import { type CapacityRange, fitsRange, pinnedCapacity, workspaceCapacity } from './capacity.ts';
import { type Source, sourceName } from './parameters.ts';
import {
  decodeVolume,
  encodeVolume,
  isSlot,
  newVolumeId,
  slotOf,
  slotOfId,
  VOLUME_LIMIT,
  type Volume,
  type VolumeKind,
  volumeKey,
} from './volume.ts';

export interface VolumeRequest {
  readonly name: string;
  readonly kind: VolumeKind;
  readonly source: Source;
  readonly capacity: CapacityRange;
}

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

/**
 * Records a volume, or finds the one that was recorded under this name. The version that the source names is looked up the first
 * time only: what a pod reads is settled when its volume is created.
 * Errors: ConflictError where the name has a volume with other properties, NotFoundError for the dataset or the reference,
 * CapacityError.
 */
export async function createVolume(repository: Repository, request: VolumeRequest): Promise<Volume> {
  const slot = slotOf(request.name);
  const existing = await readSlot(repository.bucket, slot);
  if (existing !== undefined) return sameAs(existing.volume, request);

  const { version } = await resolveName(repository, sourceName(request.source));
  const volume: Volume = {
    id: newVolumeId(request.name),
    name: request.name,
    kind: request.kind,
    ...request.source,
    version,
    capacityBytes:
      request.kind === 'workspace'
        ? workspaceCapacity(request.capacity)
        : pinnedCapacity((await readVersion(repository, version)).bytes, request.capacity),
    created: new Date().toISOString(),
  };
  try {
    const put = () => repository.bucket.put(volumeKey(slot), encodeVolume(volume), { condition: 'absent' });
    // The record keeps the version: it must be there before a collection takes what no name leads to any more.
    await guardPublish(repository, [{ version }], put, { undo: () => deleteVolume(repository, volume.id) });
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

/** Errors: NotFoundError; CorruptError. */
export async function readVolume({ bucket }: Pick<Repository, 'bucket'>, id: string): Promise<Volume> {
  const found = await findVolume(bucket, id);
  if (found !== undefined) return found.volume;
  throw new NotFoundError(`there is no volume ${JSON.stringify(id)}: it was deleted, or is of another repository`, {
    facts: { volume: id },
  });
}

/**
 * Removes a volume's record; that there is none is no error.
 * Errors: ConflictError where somebody changes it at the same time.
 */
export async function deleteVolume({ bucket }: Pick<Repository, 'bucket'>, id: string): Promise<void> {
  const found = await findVolume(bucket, id);
  if (found !== undefined) await bucket.delete(volumeKey(found.slot), { ifMatch: found.etag });
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

interface StoredVolume {
  readonly volume: Volume;
  readonly slot: string;
  readonly etag: string;
}

/** The volume with just this id, not one that was created by its name later. */
async function findVolume(bucket: Bucket, id: string): Promise<StoredVolume | undefined> {
  const slot = slotOfId(id);
  const found = slot === undefined ? undefined : await readSlot(bucket, slot);
  return found?.volume.id === id ? found : undefined;
}

async function readSlot(bucket: Bucket, slot: string): Promise<StoredVolume | undefined> {
  const key = volumeKey(slot);
  try {
    const { bytes, etag } = await readObject(bucket, key, VOLUME_LIMIT);
    return { volume: decodeVolume(bytes, key), slot, etag };
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

function sameAs(volume: Volume, { kind, source, capacity }: VolumeRequest): Volume {
  const differing =
    volume.kind !== kind
      ? `it is a ${volume.kind}, not a ${kind} (the access modes say which)`
      : sourceName(volume) !== sourceName(source)
        ? `it was made from ${sourceName(volume)}, not ${sourceName(source)}`
        : volume.prefetch !== source.prefetch
          ? `it fetches ${volume.prefetch ?? 'nothing'} when it is staged, not ${source.prefetch ?? 'nothing'}`
          : !fitsRange(volume.capacityBytes, capacity)
            ? `it has ${volume.capacityBytes} bytes, outside of what is asked for`
            : undefined;
  if (differing === undefined) return volume;
  throw new ConflictError(
    `volume ${JSON.stringify(volume.name)} exists (${volume.id}), and ${differing}: choose another name, or delete it first`,
    { facts: { volume: volume.id, name: volume.name } },
  );
}
