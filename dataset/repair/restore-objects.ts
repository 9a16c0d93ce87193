import type { Bucket } from '../bucket/bucket.ts';
import { type Digest, isDigest } from '../digest.ts';
import { ConflictError, LarderError } from '../errors.ts';
import { decodeRef, REF_LIMIT } from '../format/ref-json.ts';
import { decodeSegment, SEGMENT_LIMIT } from '../format/segment.ts';
import { decodeVersion, VERSION_LIMIT } from '../format/version-json.ts';
import { DATASETS, SEGMENTS, VERSIONS } from '../keys.ts';
import type { Repository } from '../repository.ts';
import type { ChunkSource } from './chunk-source.ts';

/** Objects that another repository has under the same key and byte for byte, or with the same meaning; and how they are checked. */
const RESTORED: readonly {
  readonly prefix: string;
  readonly limit: number;
  /** Throws where `object` is not what `key` says. */
  readonly check: (key: string, object: Buffer) => void;
}[] = [
  { prefix: VERSIONS, limit: VERSION_LIMIT, check: (key, object) => decodeVersion(digestOf(key), object) },
  { prefix: SEGMENTS, limit: SEGMENT_LIMIT + 64, check: (key, object) => decodeSegment(digestOf(key), object) },
  { prefix: DATASETS, limit: REF_LIMIT, check: (key, object) => decodeRef(key, object) },
];

/**
 * Puts a damaged or missing version, segment, branch or tag back from the first source that has it. A name is only put back where it is as it was
 * found: its version in the source may be an older or a newer one.
 * @returns whether it did
 */
export async function restoreObject(
  repository: Repository,
  sources: readonly ChunkSource[],
  key: string,
  signal?: AbortSignal,
): Promise<boolean> {
  const kind = RESTORED.find(({ prefix }) => key.startsWith(prefix));
  if (kind === undefined) return false;
  for (const source of sources) {
    const object = await source.object?.(key, kind.limit, signal);
    if (object === undefined || !isSound(() => kind.check(key, object))) continue;
    if (kind.prefix !== DATASETS) await repository.bucket.put(key, object, { signal });
    else if (!(await replaceRef(repository.bucket, key, object, signal))) continue;
    return true;
  }
  return false;
}

async function replaceRef(bucket: Bucket, key: string, object: Buffer, signal?: AbortSignal): Promise<boolean> {
  const found = await bucket.head(key, signal);
  if (found === undefined) return false;
  try {
    await bucket.put(key, object, { condition: { etag: found.etag }, signal });
    return true;
  } catch (error) {
    if (error instanceof ConflictError) return false;
    throw error;
  }
}

function isSound(check: () => void): boolean {
  try {
    check();
    return true;
  } catch (error) {
    if (error instanceof LarderError) return false;
    throw error;
  }
}

function digestOf(key: string): Digest {
  const id = key.slice(key.lastIndexOf('/') + 1);
  if (!isDigest(id)) throw new TypeError(`${key} is not named by a digest`);
  return id;
}
