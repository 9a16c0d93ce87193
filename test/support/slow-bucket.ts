import { setTimeout as sleep } from 'node:timers/promises';
import type { Bucket, PutOptions } from '../../dataset/bucket/bucket.ts';
import type { Repository } from '../../dataset/repository.ts';
import type { Random } from './random.ts';

/**
 * The repository as one client sees it whose requests and answers take their time, another each: what clients do at once comes to
 * pass in any order.
 * @param options.beforePut is waited for before an object is stored
 */
export function slowly(
  repository: Repository,
  random: Random,
  options: { readonly longest?: number; readonly beforePut?: (key: string) => Promise<void> } = {},
): Repository {
  const { bucket } = repository;
  const { longest = 4, beforePut } = options;
  const around = async <T>(request: () => Promise<T>): Promise<T> => {
    await sleep(random.below(longest));
    try {
      return await request();
    } finally {
      await sleep(random.below(longest));
    }
  };
  const slow: Bucket = {
    name: bucket.name,
    get: (key, get) => around(() => bucket.get(key, get)),
    head: (key, signal) => around(() => bucket.head(key, signal)),
    put: (key, body, put?: PutOptions) =>
      around(async () => {
        await beforePut?.(key);
        return await bucket.put(key, body, put);
      }),
    list: (prefix, list) => bucket.list(prefix, list),
    delete: (key, how) => around(() => bucket.delete(key, how)),
    close: () => bucket.close(),
  };
  return { ...repository, bucket: slow };
}
