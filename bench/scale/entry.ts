import type { ListedObject } from '../../dataset/bucket/bucket.ts';
import { bytesOf } from '../../dataset/byte-string.ts';
import type { Entry } from '../../dataset/entry.ts';
import { sourceContent } from '../../dataset/format/source.ts';
import { SOURCE_BUCKET } from './objects.ts';

/** The entry of a file whose bytes stay in its object. */
export function entryOf({ key, size, etag, modified }: ListedObject): Entry {
  const time = modified.getTime();
  return {
    type: 'file',
    path: bytesOf(key),
    mode: 0o644,
    uid: 0,
    gid: 0,
    mtimeSeconds: Math.floor(time / 1000),
    mtimeNanos: (time % 1000) * 1_000_000,
    size,
    content: sourceContent({ bucket: SOURCE_BUCKET, key, etag }),
  };
}
