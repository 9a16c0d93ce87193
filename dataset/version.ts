import { readObject } from './bucket/read-object.ts';
import { type Digest, isDigest } from './digest.ts';
import { ConflictError, NotFoundError } from './errors.ts';
import { decodeVersion, encodeVersion, VERSION_LIMIT, type Version } from './format/version-json.ts';
import { VERSIONS, versionKey } from './keys.ts';
import type { Repository } from './repository.ts';

export type { Origin, Version } from './format/version-json.ts';

/** What a version is made of; `time` is now if not said. */
export type VersionFields = Omit<Version, 'id' | 'time'> & { readonly time?: string };

export async function readVersion(repository: Repository, id: Digest, signal?: AbortSignal): Promise<Version> {
  try {
    const { bytes } = await readObject(repository.bucket, versionKey(id), VERSION_LIMIT, { signal });
    return decodeVersion(id, bytes);
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    throw new NotFoundError(`version ${id} is not in the repository ${repository.location}`, {
      cause: error,
      facts: { version: id },
    });
  }
}

/** The version; undefined where it is not there: histories may be cut short. */
export async function findVersion(
  repository: Repository,
  id: Digest,
  signal?: AbortSignal,
): Promise<Version | undefined> {
  try {
    return await readVersion(repository, id, signal);
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

/** Stores a version. What it names must be stored already. */
export async function writeVersion(repository: Repository, fields: VersionFields): Promise<Version> {
  const { version, object } = encodeVersion({ ...fields, time: fields.time ?? new Date().toISOString() });
  try {
    await repository.bucket.put(versionKey(version.id), object, { condition: 'absent' });
  } catch (error) {
    // The name is the digest of the bytes: what is there is this version.
    if (!(error instanceof ConflictError)) throw error;
  }
  return version;
}

/** Every version's id, in order of the ids. */
export async function* listVersions(repository: Repository, signal?: AbortSignal): AsyncGenerator<Digest> {
  for await (const { key } of repository.bucket.list(VERSIONS, { signal })) {
    const id = key.slice(key.lastIndexOf('/') + 1);
    if (isDigest(id)) yield id;
  }
}

/** The ids that begin with `prefix` (at least two hexadecimal digits), at most `limit` of them. */
export async function versionsWithPrefix(repository: Repository, prefix: string, limit: number): Promise<Digest[]> {
  const found: Digest[] = [];
  for await (const { key } of repository.bucket.list(`${VERSIONS}${prefix.slice(0, 2)}/${prefix}`)) {
    const id = key.slice(key.lastIndexOf('/') + 1);
    if (isDigest(id)) found.push(id);
    if (found.length >= limit) break;
  }
  return found;
}
