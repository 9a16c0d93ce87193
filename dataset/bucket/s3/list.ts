import { UnavailableError } from '../../errors.ts';
import type { ListedObject, ListOptions } from '../bucket.ts';
import { compareUtf8 } from './compare-utf8.ts';
import { wrongAnswer } from './failure.ts';
import { headObject } from './get.ts';
import { onText } from './headers.ts';
import { type ListingPage, parseListing } from './listing-xml.ts';
import { infoOf } from './object-info.ts';
import type { Requester } from './requester.ts';
import { isTombstone, mayBeTombstone } from './tombstone.ts';

interface Page {
  readonly objects: readonly ListedObject[];
  /** Where the next page begins; undefined after the last. */
  readonly next: Next | undefined;
}

interface Next {
  readonly token?: string | undefined;
  readonly after?: string | undefined;
  readonly version?: string | undefined;
}

type Lister = (prefix: string, next: Next, signal: AbortSignal | undefined) => Promise<Page>;

/**
 * Every object with the prefix, by whole keys, a page ahead of the reader. That the store gives byte order is checked: a listing
 * in another order would have its readers miss objects.
 */
export async function* listObjects(
  requester: Requester,
  bucket: string,
  prefix: string,
  { after, versions, signal }: ListOptions,
): AsyncGenerator<ListedObject> {
  const list = versions && (await keepsVersions(requester, bucket, signal)) ? versionLister : plainLister;
  const lister = await list(requester, bucket);
  const stopping = new AbortController();
  const stop = signal === undefined ? stopping.signal : AbortSignal.any([signal, stopping.signal]);
  let last: string | undefined;
  let ahead: Promise<Page> | undefined = lister(prefix, { after }, stop);
  try {
    while (ahead !== undefined) {
      const { objects, next }: Page = await ahead;
      ahead = next === undefined ? undefined : lister(prefix, next, stop);
      // It is awaited above, or at the end; until then nobody hears it.
      ahead?.catch(() => undefined);
      for (const object of objects) {
        // Some stores begin a page of versions with the one that they were told to begin after.
        if (object.key === last) continue;
        if (last !== undefined && compareUtf8(object.key, last) < 0)
          throw new UnavailableError(
            `s3://${bucket}/${prefix} is not listed in byte order: ${object.key} comes after ${last}; Larder needs a store that keeps it`,
            { facts: { bucket, key: object.key } },
          );
        last = object.key;
        if (after !== undefined && compareUtf8(object.key, after) <= 0) continue;
        if (mayBeTombstone(object) && (await isBuried(requester, bucket, object, signal))) continue;
        yield object;
      }
      signal?.throwIfAborted();
    }
  } finally {
    // A reader that leaves early wants no further page.
    stopping.abort();
    await ahead?.catch(() => undefined);
  }
}

async function isBuried(
  requester: Requester,
  bucket: string,
  { key }: ListedObject,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  return isTombstone((await headObject(requester, { bucket, key, name: key }, signal))?.metadata);
}

/** Whether the bucket keeps versions; a store that does not know the question does not. */
async function keepsVersions(requester: Requester, bucket: string, signal: AbortSignal | undefined): Promise<boolean> {
  const { GetBucketVersioningCommand } = await import('@aws-sdk/client-s3');
  return await requester.send(
    { kind: 'get-versioning', key: '' },
    async (client, abortSignal) => {
      const { Status } = await client.send(new GetBucketVersioningCommand({ Bucket: bucket }), { abortSignal });
      return Status === 'Enabled';
    },
    {
      signal,
      meaning: async ({ status, code }) =>
        status === 501 || code === 'NotImplemented' || code === 'VersioningNotConfigured'
          ? { value: false }
          : undefined,
    },
  );
}

async function plainLister(requester: Requester, bucket: string): Promise<Lister> {
  const { ListObjectsV2Command } = await import('@aws-sdk/client-s3');
  return (prefix, { token, after }, signal) =>
    requester.send(
      { kind: 'list', key: prefix },
      async (client, abortSignal) => {
        const command = new ListObjectsV2Command({
          Bucket: bucket,
          Prefix: prefix,
          EncodingType: 'url',
          ...(token === undefined ? {} : { ContinuationToken: token }),
          ...(after === undefined || token !== undefined ? {} : { StartAfter: after }),
        });
        const { items, fields } = await pageOf('ListBucketResult', 'Contents', command, (each) =>
          client.send(each, { abortSignal }),
        );
        const decode = decoder(fields.EncodingType);
        const objects = items.map((item) => objectOf(item, decode));
        if (fields.IsTruncated !== 'true') return { objects, next: undefined };
        return { objects, next: nextOf({ token: fields.NextContinuationToken || undefined }, { token }) };
      },
      { signal },
    );
}

async function versionLister(requester: Requester, bucket: string): Promise<Lister> {
  const { ListObjectVersionsCommand } = await import('@aws-sdk/client-s3');
  return (prefix, { after, version }, signal) =>
    requester.send(
      { kind: 'list', key: prefix },
      async (client, abortSignal) => {
        const command = new ListObjectVersionsCommand({
          Bucket: bucket,
          Prefix: prefix,
          EncodingType: 'url',
          ...(after === undefined ? {} : { KeyMarker: after }),
          ...(version === undefined ? {} : { VersionIdMarker: version }),
        });
        const { items, fields } = await pageOf('ListVersionsResult', 'Version', command, (each) =>
          client.send(each, { abortSignal }),
        );
        const decode = decoder(fields.EncodingType);
        const objects = items.filter(({ IsLatest }) => IsLatest === 'true').map((item) => objectOf(item, decode));
        if (fields.IsTruncated !== 'true') return { objects, next: undefined };
        const { NextKeyMarker: key, NextVersionIdMarker } = fields;
        const next = { after: key ? decode(key) : undefined, version: NextVersionIdMarker || undefined };
        return { objects, next: nextOf(next, { after, version }) };
      },
      { signal },
    );
}

/** Sends a command that lists, and reads its answer. */
async function pageOf<C extends object>(
  root: string,
  item: string,
  command: C,
  send: (command: C) => Promise<unknown>,
): Promise<ListingPage> {
  let text: string | undefined;
  onText(command, `<${root}/>`, (all) => {
    text = all;
  });
  await send(command);
  const page = text === undefined ? undefined : parseListing(text, root, item);
  if (page === undefined) throw wrongAnswer('no listing, or a part of one');
  return page;
}

function objectOf(item: Readonly<Record<string, string>>, decode: (key: string) => string): ListedObject {
  const { Key, Size, ETag, LastModified, VersionId } = item;
  const size = Number(Size);
  if (Key === undefined || Size === undefined || !Number.isSafeInteger(size))
    throw wrongAnswer('an object without key or size');
  return {
    key: decode(Key),
    ...infoOf({ ETag, VersionId, LastModified: LastModified ? new Date(LastModified) : undefined }, size),
  };
}

/** A page that says that there is more, and not where, or where this one was, is asked for again. */
function nextOf(next: Next, here: Next): Next {
  const known = next.token !== undefined || next.after !== undefined;
  if (!known || (next.token === here.token && next.after === here.after && next.version === here.version))
    throw wrongAnswer('a page that does not lead on');
  return next;
}

function decoder(encoding: string | undefined): (key: string) => string {
  return encoding === 'url' ? (key) => decodeURIComponent(key.replaceAll('+', ' ')) : (key) => key;
}
