import { randomUUID } from 'node:crypto';
import { type Access, bucketAt } from './bucket/at.ts';
import type { Bucket } from './bucket/bucket.ts';
import { PROBES, proveConditionalWrites } from './bucket/prove-conditions.ts';
import { readObject } from './bucket/read-object.ts';
import { ConflictError, CorruptError, InvalidError, NotFoundError } from './errors.ts';
import { canonicalJson, parseCanonicalJson } from './format/canonical-json.ts';

/** Where datasets are kept. A plain record that functions take. */
export interface Repository {
  /** A UUID made by `initRepository`: names what is kept elsewhere about this repository. */
  readonly id: string;
  /** Canonical: an absolute path, or an `s3://` URL. Any process may open it by this, and it holds no secret. */
  readonly location: string;
  readonly bucket: Bucket;
  /** How its store, and those of its sources, are spoken to. */
  readonly access?: Access;
}

const KEY = 'repository.json';
const FORMAT = 1;
const LIMIT = 64 * 1024;

/** Opens what `initRepository` made. Close its bucket when done. */
export async function openRepository(location: string, access?: Access): Promise<Repository> {
  const { bucket, location: place } = await bucketAt(location, access);
  try {
    const id = await readId(bucket, place);
    if (id === undefined)
      throw new NotFoundError(
        `there is no repository at ${place}; make one with 'larder repository init --repository ${inShell(place)}'`,
        {
          facts: { repository: place },
        },
      );
    return { id, location: place, bucket, ...(access && { access }) };
  } catch (error) {
    await bucket.close();
    throw error;
  }
}

/**
 * Makes a repository, or opens the one that is there. The place must be empty otherwise, and its store must keep conditional
 * writes: that is tried out, and refused with the reason where it does not.
 */
export async function initRepository(location: string): Promise<Repository> {
  const { bucket, location: place } = await bucketAt(location);
  try {
    let id = await readId(bucket, place);
    if (id === undefined) {
      await refuseOthers(bucket, place);
      await proveConditionalWrites(bucket);
      id = randomUUID();
      const object = Buffer.from(canonicalJson({ format: FORMAT, id, made: new Date().toISOString() }), 'utf8');
      try {
        await bucket.put(KEY, object, { condition: 'absent' });
      } catch (error) {
        if (!(error instanceof ConflictError)) throw error;
        id = (await readId(bucket, place))!;
      }
    }
    return { id, location: place, bucket };
  } catch (error) {
    await bucket.close();
    throw error;
  }
}

/** What another `initRepository` makes at the same time, or left in a crash, is no one else's. */
async function refuseOthers(bucket: Bucket, place: string): Promise<void> {
  for await (const { key } of bucket.list(''))
    if (key !== KEY && !key.startsWith(PROBES))
      throw new InvalidError(`${place} is neither empty nor a repository: it has ${key}; choose another place`, {
        facts: { repository: place, key },
      });
}

/** As it is typed in a shell. */
function inShell(place: string): string {
  return /^[\w@%+=:,./-]+$/.test(place) ? place : `"${place.replace(/["$`\\]/g, '\\$&')}"`;
}

async function readId(bucket: Bucket, place: string): Promise<string | undefined> {
  const name = `${KEY} in ${place}`;
  let bytes: Buffer;
  try {
    ({ bytes } = await readObject(bucket, KEY, LIMIT));
  } catch (error) {
    // A bucket that is not there is no missing repository: its error has no key.
    if (error instanceof NotFoundError && error.facts.key !== undefined) return undefined;
    throw error;
  }
  const { format, id } = parseCanonicalJson(name, bytes);
  if (typeof format === 'number' && format > FORMAT)
    throw new InvalidError(
      `the repository at ${place} has the format ${format}; this version of Larder knows ${FORMAT}: use a newer one`,
      {
        facts: { repository: place, format },
      },
    );
  if (format !== FORMAT || typeof id !== 'string' || !/^[0-9a-f-]{36}$/.test(id))
    throw new CorruptError(`${name} is damaged: it has no format and id`, { facts: { object: KEY } });
  return id;
}
