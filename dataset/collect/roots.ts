import { readObject } from '../bucket/read-object.ts';
import { type Digest, isDigest } from '../digest.ts';
import { CorruptError, NotFoundError } from '../errors.ts';
import { decodeRef, REF_LIMIT } from '../format/ref-json.ts';
import { DATASETS, VERSIONS } from '../keys.ts';
import { mapAhead } from '../map-ahead.ts';
import { readPins } from '../pins.ts';
import type { Repository } from '../repository.ts';
import { REPRIEVES } from './guard.ts';

/** What a collection keeps, and why. */
export interface Root {
  /** `branch` heads have a history that rules may thin out. */
  readonly kind: 'branch' | 'tag' | 'pin';
  /** The key of the name or the record. */
  readonly key: string;
  readonly version: Digest;
}

const AHEAD = 16;

/** Branches, tags and pins. A CorruptError names one that does not tell its version: then nothing may be deleted. */
export async function* readRoots(repository: Repository, signal?: AbortSignal): AsyncGenerator<Root> {
  const { bucket } = repository;
  const refs = mapAhead(bucket.list(DATASETS, { signal }), AHEAD, async ({ key }): Promise<Root | undefined> => {
    const kind = key.split('/').at(-2) === 'tags' ? 'tag' : 'branch';
    try {
      const { bytes } = await readObject(bucket, key, REF_LIMIT, { signal });
      return { kind, key, version: decodeRef(key, bytes).version };
    } catch (error) {
      // Deleted since it was listed.
      if (error instanceof NotFoundError) return undefined;
      throw error;
    }
  });
  for await (const root of refs) if (root !== undefined) yield root;
  for await (const { key, versions } of readPins(repository, { signal }))
    for (const version of versions) yield { kind: 'pin', key, version };
}

export interface Reprieve {
  readonly key: string;
  /** Another for each time that it was written. */
  readonly etag: string;
  readonly kind: 'version' | 'root';
  readonly id: Digest;
}

/** What writers asked to be spared (guard.ts). */
export async function readReprieves({ bucket }: Repository, signal?: AbortSignal): Promise<Reprieve[]> {
  const found: Reprieve[] = [];
  for await (const { key, etag } of bucket.list(REPRIEVES, { signal })) {
    const match = /^(version|root)-([0-9a-f]{64})$/.exec(key.slice(REPRIEVES.length));
    if (match === null)
      throw new CorruptError(`${key} in ${bucket.name} is no reprieve; remove it if you know what it is`, {
        facts: { object: key },
      });
    found.push({
      key,
      etag,
      kind: match[1] as Reprieve['kind'],
      id: match[2] as Digest,
    });
  }
  return found;
}

/** Versions that were written lately: their writers may be about to name them. */
export async function* readYoungVersions(
  { bucket }: Repository,
  before: number,
  signal?: AbortSignal,
): AsyncGenerator<Digest> {
  for await (const { key, modified } of bucket.list(VERSIONS, { signal })) {
    const id = key.slice(key.lastIndexOf('/') + 1);
    if (modified.getTime() >= before && isDigest(id)) yield id;
  }
}
