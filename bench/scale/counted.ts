import type { Body, Bucket } from '../../dataset/bucket/bucket.ts';

/** What was asked of a bucket. */
export interface Counts {
  get: number;
  head: number;
  put: number;
  list: number;
  delete: number;
  bytesWritten: number;
}

/** A bucket that counts what it is asked, and the counts. A listing is one request for each thousand keys, as it is on S3. */
export function countedBucket(bucket: Bucket): { readonly bucket: Bucket; readonly counts: Counts } {
  const counts: Counts = { get: 0, head: 0, put: 0, list: 0, delete: 0, bytesWritten: 0 };
  return {
    counts,
    bucket: {
      name: bucket.name,
      get(key, options) {
        counts.get += 1;
        return bucket.get(key, options);
      },
      head(key, signal) {
        counts.head += 1;
        return bucket.head(key, signal);
      },
      put(key, body, options) {
        counts.put += 1;
        counts.bytesWritten += lengthOf(body);
        return bucket.put(key, body, options);
      },
      async *list(prefix, options) {
        counts.list += 1;
        let keys = 0;
        for await (const object of bucket.list(prefix, options)) {
          if (keys > 0 && keys % 1000 === 0) counts.list += 1;
          keys += 1;
          yield object;
        }
      },
      delete(key, options) {
        counts.delete += 1;
        return bucket.delete(key, options);
      },
      close: () => bucket.close(),
    },
  };
}

function lengthOf(body: Body): number {
  return body instanceof Uint8Array ? body.length : body.reduce((sum, part) => sum + part.length, 0);
}
