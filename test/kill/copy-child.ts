import type { Bucket } from '../../dataset/bucket/bucket.ts';
import { copyVersions } from '../../dataset/copy.ts';
import { openRepository } from '../../dataset/repository.ts';

/*
 * A copy that kills itself: `copy-child.ts FROM TO DATASET PUT`, right before (`7`) or right after (`7+`) its so-manieth object is stored. Prints the
 * number of objects stored where it comes to its end.
 */
const [source, target, dataset, moment] = process.argv.slice(2) as [string, string, string, string];
const from = await openRepository(source);
const to = await openRepository(target);
const at = Number.parseInt(moment, 10);
let puts = 0;
const inner = to.bucket;
const bucket: Bucket = {
  name: inner.name,
  get: (key, options) => inner.get(key, options),
  head: (key, signal) => inner.head(key, signal),
  list: (prefix, options) => inner.list(prefix, options),
  delete: (key, options) => inner.delete(key, options),
  close: () => inner.close(),
  async put(key, body, options) {
    puts += 1;
    const isLast = puts === at;
    if (isLast && !moment.endsWith('+')) process.kill(process.pid, 'SIGKILL');
    const etag = await inner.put(key, body, options);
    if (isLast) process.kill(process.pid, 'SIGKILL');
    return etag;
  },
};
await copyVersions({ from, to: { ...to, bucket }, dataset });
console.log(puts);
await inner.close();
await from.bucket.close();
