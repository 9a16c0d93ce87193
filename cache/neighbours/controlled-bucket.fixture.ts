import type { Bucket } from '../../dataset/bucket/bucket.ts';

/** A bucket that gives its bytes in small blocks, counts them, and can be stopped and broken. */
export interface ControlledBucket extends Bucket {
  /** Bytes given, by key. */
  readonly bytes: ReadonlyMap<string, number>;
  /** Calls of `get`, and of `head`. */
  readonly gets: number;
  readonly heads: number;
  /** Called with each block before it is given: where it waits, so does the reader; what it throws is what breaks. */
  before: (key: string, offset: number) => Promise<void> | void;
  total(): number;
}

const BLOCK = 50_000;

export function controlledBucket(inner: Bucket): ControlledBucket {
  const bytes = new Map<string, number>();
  let gets = 0;
  let heads = 0;
  const bucket: ControlledBucket = {
    name: inner.name,
    bytes,
    get gets() {
      return gets;
    },
    get heads() {
      return heads;
    },
    before: () => {},
    total: () => bytes.values().reduce((sum, each) => sum + each, 0),
    get: async (key, options) => {
      gets += 1;
      const object = await inner.get(key, options);
      async function* controlled(): AsyncGenerator<Buffer> {
        let offset = options?.range?.offset ?? 0;
        for await (const block of object.body) {
          for (let at = 0; at < block.length; at += BLOCK) {
            const part = block.subarray(at, at + BLOCK);
            await bucket.before(key, offset);
            offset += part.length;
            bytes.set(key, (bytes.get(key) ?? 0) + part.length);
            yield part;
          }
        }
      }
      return { ...object, body: controlled() };
    },
    head: (key, signal) => {
      heads += 1;
      return inner.head(key, signal);
    },
    put: (key, body, options) => inner.put(key, body, options),
    list: (prefix, options) => inner.list(prefix, options),
    delete: (key, options) => inner.delete(key, options),
    close: async () => {},
  };
  return bucket;
}
