import { resolve } from 'node:path';
import { InvalidError } from '../errors.ts';
import type { Bucket } from './bucket.ts';
import { directoryBucket } from './directory.ts';
import { formatS3Location, isS3Location, parseS3Location } from './s3/location.ts';

/** How a store is spoken to; a directory needs none of it. */
export interface Access {
  /** How long a request may stand still, in milliseconds, before it is sent again over another connection. */
  readonly stall?: number;
}

/**
 * The bucket at a location as users write it: a directory, or an `s3://` URL (docs/object-stores.md has its parameters). Nothing is
 * asked of the store.
 * @returns `location` is the one way to write it, and holds no secret
 */
export async function bucketAt(
  location: string,
  access: Access = {},
): Promise<{ readonly bucket: Bucket; readonly location: string }> {
  const canonical = canonicalLocation(location);
  return { bucket: await bucketOf(canonical, access), location: canonical };
}

/** What speaks to a store is loaded for those who have one. */
async function bucketOf(location: string, { stall }: Access): Promise<Bucket> {
  if (!isS3Location(location)) return directoryBucket(location);
  const { s3Bucket } = await import('./s3.ts');
  return s3Bucket(parseS3Location(location), stall === undefined ? {} : { timeouts: { stall } });
}

/** An absolute path, or an `s3://` URL with its parameters sorted and without those that have their defaults. */
export function canonicalLocation(location: string): string {
  if (location === '') throw new InvalidError("a location is needed: a directory, or 's3://BUCKET/PREFIX'");
  if (isS3Location(location)) return formatS3Location(parseS3Location(location));
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(location)?.[1];
  if (scheme !== undefined)
    throw new InvalidError(
      `nothing can be kept at ${scheme}://…: a location is a directory or 's3://BUCKET/PREFIX' (other stores have such an interface: docs/object-stores.md)`,
      { facts: { scheme } },
    );
  return resolve(location);
}
