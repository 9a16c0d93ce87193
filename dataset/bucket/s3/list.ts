import { UnavailableError } from '../../errors.ts';
import type { ListedObject, ListOptions } from '../bucket.ts';
import { compareUtf8 } from './compare-utf8.ts';
import { infoOf } from './object-info.ts';
import type { Requester } from './requester.ts';

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
  let last: string | undefined;
  let ahead: Promise<Page> | undefined = lister(prefix, { after }, signal);
  try {
    while (ahead !== undefined) {
      const { objects, next }: Page = await ahead;
      ahead = next === undefined ? undefined : lister(prefix, next, signal);
      // It is awaited above, or at the end; until then nobody hears it.
      ahead?.catch(() => undefined);
      for (const object of objects) {
        if (last !== undefined && compareUtf8(object.key, last) <= 0)
          throw new UnavailableError(
            `s3://${bucket}/${prefix} is not listed in byte order: ${object.key} comes after ${last}; Larder needs a store that keeps it`,
            { facts: { bucket, key: object.key } },
          );
        last = object.key;
        if (after !== undefined && compareUtf8(object.key, after) <= 0) continue;
        yield object;
      }
      signal?.throwIfAborted();
    }
  } finally {
    await ahead?.catch(() => undefined);
  }
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
        const page = await client.send(
          new ListObjectsV2Command({
            Bucket: bucket,
            Prefix: prefix,
            EncodingType: 'url',
            ...(token === undefined ? {} : { ContinuationToken: token }),
            ...(after === undefined || token !== undefined ? {} : { StartAfter: after }),
          }),
          { abortSignal },
        );
        const decode = decoder(page.EncodingType);
        const objects = (page.Contents ?? []).map((each) => ({
          key: decode(each.Key!),
          ...infoOf(each, each.Size ?? 0),
        }));
        if (!page.IsTruncated) return { objects, next: undefined };
        return { objects, next: nextOf({ token: page.NextContinuationToken }) };
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
        const page = await client.send(
          new ListObjectVersionsCommand({
            Bucket: bucket,
            Prefix: prefix,
            EncodingType: 'url',
            ...(after === undefined ? {} : { KeyMarker: after }),
            ...(version === undefined ? {} : { VersionIdMarker: version }),
          }),
          { abortSignal },
        );
        const decode = decoder(page.EncodingType);
        const objects = (page.Versions ?? [])
          .filter(({ IsLatest }) => IsLatest)
          .map((each) => ({ key: decode(each.Key!), ...infoOf(each, each.Size ?? 0) }));
        if (!page.IsTruncated) return { objects, next: undefined };
        const { NextKeyMarker, NextVersionIdMarker } = page;
        return {
          objects,
          next: nextOf({
            after: NextKeyMarker === undefined ? undefined : decode(NextKeyMarker),
            version: NextVersionIdMarker || undefined,
          }),
        };
      },
      { signal },
    );
}

/** A page that says that there is more, and not where, is asked for again. */
function nextOf(next: Next): Next {
  if (next.token === undefined && next.after === undefined)
    throw Object.assign(new Error('it gave a page that ends nowhere'), { code: 'WrongAnswer' });
  return next;
}

function decoder(encoding: string | undefined): (key: string) => string {
  return encoding === 'url' ? (key) => decodeURIComponent(key.replaceAll('+', ' ')) : (key) => key;
}
