import { createHash } from 'node:crypto';
import type { ObjectInfo } from '../bucket.ts';

/*
 * Where a store ignores If-Match on a DELETE, an object that is to be deleted only if it is unchanged is replaced, on the condition
 * that it is, by a tombstone: an object that every reader takes for none, and that a writer who wants no object there replaces. It
 * stays: to remove it could only be done without a condition, and would hit whoever has just replaced it.
 */

export const TOMBSTONE = Buffer.from(
  'This object was deleted by Larder in a store that has no conditional deletion; it stands for none.\n',
);

const ETAG = createHash('md5').update(TOMBSTONE).digest('hex');

/** The user metadata that makes an object a tombstone, so that nobody's object with the same text is one. */
const FIELD = 'larder-deleted';

export const TOMBSTONE_METADATA = { [FIELD]: 'yes' };

export function isTombstone(metadata: Readonly<Record<string, string>> | undefined): boolean {
  return metadata?.[FIELD] !== undefined;
}

/** Whether an object in a listing, which tells no metadata, may be one. */
export function mayBeTombstone({ size, etag }: ObjectInfo): boolean {
  if (size !== TOMBSTONE.length) return false;
  // An ETag that has the form of an MD5 mostly is one; with some kinds of encryption it is something else.
  return etag === ETAG || !/^[0-9a-f]{32}$/.test(etag);
}
