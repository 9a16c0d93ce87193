import type { Bucket } from '../dataset/bucket/bucket.ts';
import { readObject } from '../dataset/bucket/read-object.ts';
import { ConflictError, InvalidError, NotFoundError } from '../dataset/errors.ts';
import { resolveName } from '../dataset/refs.ts';
import type { Repository } from '../dataset/repository.ts';
import { readVersion } from '../dataset/version.ts';
import { type CapacityRange, fitsRange, pinnedCapacity, workspaceCapacity } from './capacity.ts';
import { type Source, sourceName } from './parameters.ts';
import {
  decodeVolume,
  encodeVolume,
  isVolumeId,
  VOLUME_LIMIT,
  type Volume,
  type VolumeKind,
  volumeId,
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
  const id = volumeId(request.name);
  const existing = await findVolume(repository.bucket, id);
  if (existing !== undefined) return sameAs(existing, request);

  const { version } = await resolveName(repository, sourceName(request.source));
  const volume: Volume = {
    id,
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
    await repository.bucket.put(volumeKey(id), encodeVolume(volume), { condition: 'absent' });
    return volume;
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error;
    // Another controller recorded it between our look and our write: its record counts.
    return sameAs(await readVolume(repository, id), request);
  }
}

/** Errors: NotFoundError; CorruptError. */
export async function readVolume(repository: Pick<Repository, 'bucket'>, id: string): Promise<Volume> {
  const volume = await findVolume(repository.bucket, id);
  if (volume !== undefined) return volume;
  throw new NotFoundError(`there is no volume ${JSON.stringify(id)}: it was deleted, or is of another repository`, {
    facts: { volume: id },
  });
}

/** Removes a volume's record; that there is none is no error. */
export async function deleteVolume({ bucket }: Pick<Repository, 'bucket'>, id: string): Promise<void> {
  if (isVolumeId(id)) await bucket.delete(volumeKey(id));
}

/**
 * Volumes in the order of their ids, from after `page.after` on. A page's end stays valid when the volume it names is deleted.
 * Errors: PageError where `after` is no page's end.
 */
export async function listVolumes(
  { bucket }: Pick<Repository, 'bucket'>,
  page: { readonly after?: string; readonly limit?: number } = {},
): Promise<VolumePage> {
  const { after, limit = PAGE_LIMIT } = page;
  if (after !== undefined && !isVolumeId(after))
    throw new PageError(`no page of volumes starts at ${JSON.stringify(after)}: list from the start`);
  const ids: string[] = [];
  const start = after === undefined ? {} : { after: volumeKey(after) };
  for await (const { key } of bucket.list(volumeKey(''), start)) {
    // One more than fits tells that there is a next page.
    if (ids.push(key.slice(volumeKey('').length)) > limit) break;
  }
  const shown = ids.slice(0, limit);
  const volumes: Volume[] = [];
  for (let i = 0; i < shown.length; i += READERS) {
    const found = await Promise.all(shown.slice(i, i + READERS).map((id) => findVolume(bucket, id)));
    // One that was deleted since the listing is not in the list.
    volumes.push(...found.filter((volume) => volume !== undefined));
  }
  return ids.length > limit ? { volumes, next: shown.at(-1) as string } : { volumes };
}

async function findVolume(bucket: Bucket, id: string): Promise<Volume | undefined> {
  if (!isVolumeId(id)) return undefined;
  const key = volumeKey(id);
  try {
    return decodeVolume((await readObject(bucket, key, VOLUME_LIMIT)).bytes, key);
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
        : !fitsRange(volume.capacityBytes, capacity)
          ? `it has ${volume.capacityBytes} bytes, outside of what is asked for`
          : undefined;
  if (differing === undefined) return volume;
  throw new ConflictError(
    `volume ${JSON.stringify(volume.name)} exists (${volume.id}), and ${differing}: choose another name, or delete it first`,
    { facts: { volume: volume.id, name: volume.name } },
  );
}
