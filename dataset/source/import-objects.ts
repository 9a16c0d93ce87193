import { bucketAt } from '../bucket/at.ts';
import type { Bucket } from '../bucket/bucket.ts';
import { formatS3Location, isS3Location, parseS3Location } from '../bucket/s3/location.ts';
import { InvalidError, NotFoundError, UnavailableError } from '../errors.ts';
import {
  archiveFolder,
  checkArchives,
  type Item,
  type ItemsImportOptions,
  type ItemsImportResult,
  importItems,
} from './import-items.ts';
import {
  directoryOfObjects,
  importListing,
  type ListingImportOptions,
  type ListingImportResult,
  metadataOfObject,
} from './import-listing.ts';
import { LeftOut, type ObjectAt, objectsAt, withDirectories } from './listed-objects.ts';
import { inPathOrder } from './path-order.ts';
import { PathSorter } from './path-sorter.ts';

/** A bucket to import from. */
export interface ObjectsPlace {
  readonly bucket: string;
  /** The bucket's location, without a prefix and what only writes need; endpoint and region as they are in force. */
  readonly location: string;
  /** The same with all that the user said, for this import's own reads. */
  readonly access: string;
  /** What all keys begin with: empty, or with a slash at its end. */
  readonly prefix: string;
}

/** What an `s3://` location means as a source. An InvalidError where it is none. */
export function parseObjectsPlace(
  location: string,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): ObjectsPlace {
  if (!isS3Location(location))
    throw new InvalidError(`'${location}' is no bucket: it begins with 's3://'`, { facts: { source: location } });
  const { bucket, prefix, options } = parseS3Location(location);
  const { pathStyle, profile, credentials } = options;
  // Others who read the objects later may have another environment.
  const endpoint = options.endpoint ?? (environment.AWS_ENDPOINT_URL_S3 || environment.AWS_ENDPOINT_URL || undefined);
  const region = options.region ?? (environment.AWS_REGION || environment.AWS_DEFAULT_REGION || undefined);
  const kept = {
    ...(endpoint !== undefined && { endpoint }),
    ...(region !== undefined && { region }),
    ...(pathStyle !== undefined && { pathStyle }),
    ...(profile !== undefined && { profile }),
    ...(credentials !== undefined && { credentials }),
  };
  return {
    bucket,
    location: formatS3Location({ bucket, prefix: '', options: kept }),
    access: formatS3Location({ bucket, prefix: '', options }),
    prefix: prefix === '' ? '' : `${prefix}/`,
  };
}

type InPlaceOptions = Omit<ListingImportOptions, 'bucket' | 'prefix' | 'listing'> & { readonly place: ObjectsPlace };

/** Makes a version of a bucket's objects below a prefix, which stay where they are: see `importListing`. */
export async function importInPlace({ place, ...options }: InPlaceOptions): Promise<ListingImportResult> {
  const { bucket } = await bucketAt(place.access);
  try {
    const listing = bucket.list(place.prefix, { versions: true, signal: options.signal });
    return await importListing({ ...options, bucket: place, prefix: place.prefix, listing });
  } finally {
    await bucket.close();
  }
}

export interface ObjectsImportOptions extends Omit<ItemsImportOptions, 'source' | 'items' | 'open'> {
  readonly place: ObjectsPlace;
  /** Open tar archives into their members. */
  readonly expand?: boolean;
}

export interface ObjectsImportResult extends ItemsImportResult {
  /** Objects that the version does not have, since their keys cannot be paths. */
  readonly leftOut: number;
}

/**
 * Makes a version of a bucket's objects below a prefix, with their bytes. An object whose ETag is that of the last import from this place to this
 * branch is not read.
 */
export async function importObjects({
  place,
  expand = false,
  ...options
}: ObjectsImportOptions): Promise<ObjectsImportResult> {
  const { bucket } = await bucketAt(place.access);
  const leftOut = new LeftOut();
  try {
    const result = await importItems({
      ...options,
      source: JSON.stringify([place.location, place.prefix, expand]),
      items: checkArchives(itemsOf(bucket, place, expand, leftOut, options)),
      open: async (item, signal) => {
        try {
          const { size, etag, modified, body } = await bucket.get(item.key, { signal });
          if (etag === item.stamp && size !== item.size) {
            await body[Symbol.asyncIterator]().return?.();
            throw new UnavailableError(
              `the object '${item.key}' was listed with ${item.size} bytes and came with ${size}, both of ETag ${etag}: import again`,
              { facts: { bucket: place.bucket, key: item.key } },
            );
          }
          const { mtimeSeconds, mtimeNanos } = timeOf(modified);
          return { entry: { mode: 0o644, uid: 0, gid: 0, mtimeSeconds, mtimeNanos }, stamp: etag, size, body };
        } catch (error) {
          if (error instanceof NotFoundError) return undefined;
          throw error;
        }
      },
    });
    for (const warning of leftOut.warnings()) options.onWarning?.(warning);
    return { ...result, leftOut: leftOut.total };
  } finally {
    await bucket.close();
  }
}

async function* itemsOf(
  bucket: Bucket,
  { prefix }: ObjectsPlace,
  expand: boolean,
  leftOut: LeftOut,
  { signal, temporary }: Pick<ObjectsImportOptions, 'signal' | 'temporary'>,
): AsyncGenerator<readonly Item[]> {
  const objects = objectsAt(bucket.list(prefix, { signal }), prefix, leftOut, signal);
  const ordered = expand ? withArchives(objects, temporary) : inPathOrder(objects, { directory: temporary });
  for await (const batch of withDirectories(ordered, leftOut)) {
    yield batch.map((placed): Item => {
      if (placed.kind === 'directory') return directoryOfObjects(placed);
      const { path, key, size, etag, isArchive } = placed.object;
      return { type: isArchive ? 'archive' : 'file', path, key, size, stamp: etag };
    });
  }
}

/** Gives archives the path of their folder, which is another place in the order. */
async function* withArchives(
  objects: AsyncIterable<readonly ObjectAt[]>,
  directory: string | undefined,
): AsyncGenerator<ObjectAt[]> {
  using sorter = new PathSorter<ObjectAt>({ directory });
  let number = 0;
  for await (const batch of objects)
    for (const object of batch) {
      const folder = object.isFolder ? undefined : archiveFolder(object.path);
      sorter.add(folder === undefined ? object : { ...object, path: folder, isArchive: true }, number++);
    }
  let batch: ObjectAt[] = [];
  for (const { entry } of sorter.sorted()) {
    batch.push(entry);
    if (batch.length < 1024) continue;
    yield batch;
    batch = [];
  }
  yield batch;
}

function timeOf(modified: Date) {
  return metadataOfObject({ kind: 'directory', path: '' as ObjectAt['path'], modified: modified.getTime() });
}
