import type { GetOptions, ObjectInfo } from '../../dataset/bucket/bucket.ts';
import { type Digest, isDigest } from '../../dataset/digest.ts';
import { LOCATIONS, PACKS, SEGMENTS } from '../../dataset/keys.ts';

/*
 * What neighbours say to each other, over HTTP/1.1 in TLS with certificates on both sides. docs/formats.md, "Between neighbours".
 *
 *     GET /v1                             a sign of life: 204 at once, whatever else there is to do
 *     POST /v1/<repository id>            who sends it was asked for that repository in vain, and has it open now: 204
 *     GET /v1/<repository id>/<key>       a key below packs/, segments/ or locations/
 *     Range: bytes=<first>-<last>         optional
 *     If-Match: "<etag>"                  optional
 *
 *     200, 206   ETag, Last-Modified, Content-Length, Content-Range and the bytes
 *     400        no such path or range
 *     403        the certificate does not have the name of a neighbour
 *     404        that repository is not open here
 *     412, 416   the object is another, or ends before the range does
 *     502        the bucket failed
 *     503        enough to do
 *
 * Each answer has Larder-Instance: 16 random bytes of the process that gives it, in hexadecimal digits. Each request of a node that is in
 * the list has Larder-Node: how the list calls it.
 */

/** What each neighbour's certificate must have as a DNS name, so that a certificate of the same authority for something else is none. */
export const CERTIFICATE_NAME = 'larder-neighbour';

export const INSTANCE_HEADER = 'larder-instance';

export const NODE_HEADER = 'larder-node';

export const LIFE_PATH = '/v1';

export type SharedKind = 'packs' | 'segments' | 'locations';

export interface SharedKey {
  readonly kind: SharedKind;
  readonly digest: Digest;
}

type Range = NonNullable<GetOptions['range']>;

/** What a key that neighbours share is of; undefined for any other. */
export function sharedKey(key: string): SharedKey | undefined {
  const kind = [PACKS, SEGMENTS, LOCATIONS].find((prefix) => key.startsWith(prefix));
  if (kind === undefined) return undefined;
  const [fan, digest, ...more] = key.slice(kind.length).split('/');
  if (digest === undefined || more.length > 0 || !isDigest(digest) || fan !== digest.slice(0, 2)) return undefined;
  return { kind: kind.slice(0, -1) as SharedKind, digest };
}

export function formatPath(repository: string, key: string): string {
  return `/v1/${repository}/${key}`;
}

export function openPath(repository: string): string {
  return `/v1/${repository}`;
}

/** The repository of such a path. */
export function parseOpenPath(path: string): string | undefined {
  return /^\/v1\/([0-9a-f-]{36})$/.exec(path)?.[1];
}

/** Undefined where it is no path of an object. */
export function parsePath(
  path: string,
): (SharedKey & { readonly repository: string; readonly key: string }) | undefined {
  const [, repository, key] = /^\/v1\/([0-9a-f-]{36})\/([a-z]+\/[0-9a-f/]+)$/.exec(path) ?? [];
  if (repository === undefined || key === undefined) return undefined;
  const shared = sharedKey(key);
  return shared && { ...shared, repository, key };
}

export function formatRange({ offset, length }: Range): string {
  return `bytes=${offset}-${offset + length - 1}`;
}

/** A `Range` header. `wrong`: it is none that this protocol has. */
export function parseRange(header: string): Range | 'wrong' {
  const [, first, last] = /^bytes=(\d{1,15})-(\d{1,15})$/.exec(header) ?? [];
  const offset = Number(first);
  const length = Number(last) - offset + 1;
  return length >= 1 ? { offset, length } : 'wrong';
}

export function formatContentRange({ offset, length }: Range, size: number): string {
  return `bytes ${offset}-${offset + length - 1}/${size}`;
}

/** The facts in an answer's headers, if it is an answer to what was asked. */
export function parseInfo(
  headers: NodeJS.Dict<string | string[]>,
  range: Range | undefined,
): { readonly info: ObjectInfo; readonly length: number } | undefined {
  const length = Number(headers['content-length'] ?? Number.NaN);
  const etag = /^"([^"]*)"$/.exec(String(headers.etag))?.[1];
  const modified = new Date(String(headers['last-modified']));
  if (!Number.isSafeInteger(length) || etag === undefined || Number.isNaN(modified.getTime())) return undefined;
  if (range === undefined) {
    if (headers['content-range'] !== undefined) return undefined;
    return { info: { size: length, etag, modified }, length };
  }
  const size = Number(/^bytes \d+-\d+\/(\d{1,15})$/.exec(String(headers['content-range']))?.[1] ?? Number.NaN);
  if (headers['content-range'] !== formatContentRange(range, size) || length !== range.length) return undefined;
  return { info: { size, etag, modified }, length };
}
