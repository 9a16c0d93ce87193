import { bucketAt } from '../bucket/at.ts';
import type { Bucket } from '../bucket/bucket.ts';
import { readObject } from '../bucket/read-object.ts';
import { isS3Location, parseS3Location } from '../bucket/s3/location.ts';
import type { SourceContent } from '../entry.ts';
import { ConflictError, CorruptError, NotFoundError } from '../errors.ts';
import { canonicalJson, parseCanonicalJson } from '../format/canonical-json.ts';
import { SOURCES, sourceKey } from '../keys.ts';
import { unescapeName } from '../names.ts';
import type { Repository } from '../repository.ts';

/*
 * Entries that refer to objects in place name a bucket; where that bucket is, is kept once, in `sources/<bucket>`, so that a bucket can move
 * to another endpoint without a new version.
 */

const FORMAT = 1;
const LIMIT = 16 * 1024;

/** The record of a bucket that versions refer to. */
export interface SourceRecord {
  readonly bucket: string;
  /** As `bucketAt` takes it, without a prefix. */
  readonly location: string;
}

/** A bucket that versions refer to, open. */
export interface OpenSource {
  readonly bucket: Bucket;
  readonly key: string;
}

/** By repository, and by name. */
const opened = new WeakMap<Bucket, Map<string, Promise<Bucket>>>();

/** Records where a bucket is, if it is not yet. A ConflictError where it is recorded to be somewhere else. */
export async function recordSource(repository: Repository, { bucket, location }: SourceRecord): Promise<void> {
  const object = Buffer.from(canonicalJson({ format: FORMAT, location }), 'utf8');
  const known = await readSourceRecord(repository, bucket);
  if (known === undefined) {
    try {
      await repository.bucket.put(sourceKey(bucket), object, { condition: 'absent' });
      return;
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
    }
  }
  const there = known ?? (await readSourceRecord(repository, bucket));
  if (there === undefined || isSameBucket(there.location, location)) return;
  throw new ConflictError(
    `versions in this repository refer to bucket '${bucket}' at ${there.location}, and this is ${location}: two buckets of one name cannot both be ` +
      `referred to; import without '--in-place', or into another repository`,
    { facts: { bucket, location, recorded: there.location } },
  );
}

/** How a bucket is read, as by which credentials, makes no other bucket of it. */
function isSameBucket(a: string, b: string): boolean {
  if (!isS3Location(a) || !isS3Location(b)) return a === b;
  return parseS3Location(a).options.endpoint === parseS3Location(b).options.endpoint;
}

/** Where a bucket is that versions refer to; undefined where nothing is recorded. */
export async function readSourceRecord(repository: Repository, bucket: string): Promise<SourceRecord | undefined> {
  const key = sourceKey(bucket);
  try {
    const { bytes } = await readObject(repository.bucket, key, LIMIT);
    const { format, location } = parseCanonicalJson(key, bytes);
    if (format !== FORMAT || typeof location !== 'string')
      throw new CorruptError(`${key} is damaged: it has no location`, { facts: { object: key } });
    return { bucket, location };
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

/** All that is recorded. */
export async function* listSources(repository: Repository, signal?: AbortSignal): AsyncGenerator<SourceRecord> {
  for await (const { key } of repository.bucket.list(SOURCES, { signal })) {
    const bucket = unescapeName(key.slice(SOURCES.length));
    const record = bucket === undefined ? undefined : await readSourceRecord(repository, bucket);
    if (record !== undefined) yield record;
  }
}

/**
 * The bucket that a content refers to, kept open until `closeSources`.
 * @throws CorruptError where it is not recorded where the bucket is
 */
export async function openSource(
  repository: Repository,
  content: Pick<SourceContent, 'bucket' | 'key'>,
): Promise<OpenSource> {
  let buckets = opened.get(repository.bucket);
  if (buckets === undefined) {
    buckets = new Map();
    opened.set(repository.bucket, buckets);
  }
  const { bucket: name, key } = content;
  let opening = buckets.get(name);
  if (opening === undefined) {
    opening = open(repository, name);
    const all = buckets;
    // What fails may be mended: the next one tries again.
    opening.catch(() => all.delete(name));
    buckets.set(name, opening);
  }
  return { bucket: await opening, key };
}

async function open(repository: Repository, name: string): Promise<Bucket> {
  const record = await readSourceRecord(repository, name);
  if (record === undefined)
    throw new CorruptError(
      `${repository.location} does not tell where the bucket '${name}' is, which a version refers to: ${sourceKey(name)} is missing`,
      { facts: { object: sourceKey(name), bucket: name, source: true } },
    );
  return (await bucketAt(record.location, repository.access)).bucket;
}

/** Closes the buckets that `openSource` opened for a repository. */
export async function closeSources(repository: Repository): Promise<void> {
  const buckets = opened.get(repository.bucket);
  if (buckets === undefined) return;
  opened.delete(repository.bucket);
  for (const each of await Promise.allSettled(buckets.values()))
    if (each.status === 'fulfilled') await each.value.close();
}
