import type { Bucket } from './bucket.ts';

/** What is asked of a store, as its bill counts it. */
export type RequestKind =
  | 'get'
  | 'head'
  | 'put'
  | 'list'
  | 'delete'
  | 'create-upload'
  | 'upload-part'
  | 'complete-upload'
  | 'abort-upload'
  | 'get-versioning';

export interface RequestCount {
  /** Requests sent, those that failed among them. */
  count: number;
  /** Of objects' bytes, sent or received. */
  bytes: number;
  /** Requests without an answer, or with one that says that they failed; not conditions that did not hold, nor missing objects. */
  errors: number;
  /** Requests sent once more after one that failed. */
  retries: number;
}

/** What a bucket has asked of its store since it was opened. */
export type Requests = { readonly [kind in RequestKind]?: Readonly<RequestCount> };

/** A bucket whose requests are counted. */
export interface MeteredBucket extends Bucket {
  readonly requests: Requests;
}

/** The counts of a bucket that has them: one in an object store. */
export function requestsOf(bucket: Bucket): Requests | undefined {
  return (bucket as Partial<MeteredBucket>).requests;
}

/** All kinds in one. */
export function totalOf(requests: Requests): RequestCount {
  const total: RequestCount = { count: 0, bytes: 0, errors: 0, retries: 0 };
  for (const each of Object.values(requests)) {
    total.count += each.count;
    total.bytes += each.bytes;
    total.errors += each.errors;
    total.retries += each.retries;
  }
  return total;
}

export class Meter {
  readonly requests: { [kind in RequestKind]?: RequestCount } = {};

  of(kind: RequestKind): RequestCount {
    this.requests[kind] ??= { count: 0, bytes: 0, errors: 0, retries: 0 };
    return this.requests[kind];
  }
}
