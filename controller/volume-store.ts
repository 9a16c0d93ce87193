import { setTimeout as sleep } from 'node:timers/promises';
import type { Bucket } from '../dataset/bucket/bucket.ts';
import { readObject } from '../dataset/bucket/read-object.ts';
import { guardPublish, type SweepMark } from '../dataset/collect/guard.ts';
import { ConflictError, NotFoundError, UnavailableError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import { decodeVolume, encodeVolume, pinnedBy, slotOfId, VOLUME_LIMIT, type Volume, volumeKey } from './volume.ts';

/** A record as it was when it was read. */
export interface StoredVolume {
  readonly volume: Volume;
  readonly slot: string;
  readonly etag: string;
}

export interface ChangeOptions {
  /** What `markSweeps` gave before a version that the change names was found stored. */
  readonly since?: SweepMark;
  readonly signal?: AbortSignal;
  /** Waits between two tries, for tests. */
  readonly wait?: (milliseconds: number) => Promise<unknown>;
}

/** How often a change is tried. Whoever is refused has been overtaken by somebody else's, so that all together get on. */
const ATTEMPTS = 16;
/** The longest wait after the first refusal, which doubles with each, and the longest of all; in milliseconds. */
const FIRST_WAIT = 20;
const LONGEST_WAIT = 2_000;

/** Errors: NotFoundError; CorruptError. */
export async function readVolume({ bucket }: Pick<Repository, 'bucket'>, id: string): Promise<Volume> {
  const found = await findVolume(bucket, id);
  if (found === undefined) throw noVolume(id);
  return found.volume;
}

/**
 * Changes a volume's record by compare-and-swap: reads it, and writes what `change` makes of it if nobody has changed it since; else once more from the
 * start. `change` may be called any number of times, and returns undefined (or what it was given) where there is nothing to change;
 * what it throws ends the call. Members that it does not know must stay: it spreads what it is given.
 * @returns the record as it is now
 * Errors: NotFoundError where there is no such volume, or a version that it names; UnavailableError where others change it all the time, or
 * a collection took parts of the version (guardPublish).
 */
export async function changeVolume(
  repository: Repository,
  id: string,
  change: (volume: Volume) => Volume | undefined | Promise<Volume | undefined>,
  options: ChangeOptions = {},
): Promise<Volume> {
  const { signal, wait = (milliseconds) => sleep(milliseconds, undefined, { signal }) } = options;
  for (let attempt = 1; ; attempt++) {
    signal?.throwIfAborted();
    const found = await findVolume(repository.bucket, id, signal);
    if (found === undefined) throw noVolume(id);
    const next = await change(found.volume);
    if (next === undefined) return found.volume;
    try {
      await replace(repository, found, next, options);
      return next;
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
      if (attempt >= ATTEMPTS)
        throw new UnavailableError(
          `volume ${JSON.stringify(found.volume.name)} was changed by others each of ${ATTEMPTS} times: try again`,
          { cause: error, facts: { volume: id } },
        );
    }
    await wait(Math.random() * Math.min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT));
  }
}

/** Puts `next` in the place of what was found, if that is still there. */
async function replace(
  repository: Repository,
  found: StoredVolume,
  next: Volume,
  { since, signal }: ChangeOptions,
): Promise<void> {
  const { volume: before, slot } = found;
  const [old, bytes] = [encodeVolume(before), encodeVolume(next)];
  if (old.equals(bytes)) return;
  const put = () => repository.bucket.put(volumeKey(slot), bytes, { condition: { etag: found.etag }, signal });
  const pinned = pinnedBy(before);
  const news = pinnedBy(next).filter((version) => !pinned.includes(version));
  if (news.length === 0) {
    await put();
    return;
  }
  // What the record kept before, it keeps until it keeps the next.
  const what = news.map((version) => ({ version }));
  await guardPublish(repository, what, put, { since, signal, undo: () => putBack(repository, before, next) });
}

/** Takes versions out of a record again, whatever else was changed in it since. */
async function putBack(repository: Repository, before: Volume, next: Volume): Promise<void> {
  const { ref, base, version, lower, kept, savedAt } = before;
  try {
    await changeVolume(repository, next.id, (now) => {
      const isOurs = now.version === next.version && now.lower === next.lower && now.generation === next.generation;
      return isOurs ? { ...now, ref, base, version, lower, kept, savedAt } : undefined;
    });
  } catch (error) {
    // Deleted since: it keeps nothing.
    if (!(error instanceof NotFoundError)) throw error;
  }
}

/** The volume with just this id, not one that was created by its name later. */
export async function findVolume(bucket: Bucket, id: string, signal?: AbortSignal): Promise<StoredVolume | undefined> {
  const slot = slotOfId(id);
  const found = slot === undefined ? undefined : await readSlot(bucket, slot, signal);
  return found?.volume.id === id ? found : undefined;
}

export async function readSlot(bucket: Bucket, slot: string, signal?: AbortSignal): Promise<StoredVolume | undefined> {
  const key = volumeKey(slot);
  try {
    const { bytes, etag } = await readObject(bucket, key, VOLUME_LIMIT, { signal });
    return { volume: decodeVolume(bytes, key), slot, etag };
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

/** Removes a record that was read, if it is unchanged. Errors: ConflictError. */
export async function removeRecord({ bucket }: Pick<Repository, 'bucket'>, found: StoredVolume): Promise<void> {
  await bucket.delete(volumeKey(found.slot), { ifMatch: found.etag });
}

export function noVolume(id: string): NotFoundError {
  return new NotFoundError(`there is no volume ${JSON.stringify(id)}: it was deleted, or is of another repository`, {
    facts: { volume: id },
  });
}
