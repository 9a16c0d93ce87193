import { copyVersions } from '../../dataset/copy.ts';
import { openRepository } from '../../dataset/repository.ts';
import { dieAtPut } from '../support/kills.ts';

/* A copy that kills itself: `FROM TO DATASET MOMENT` (as of `dieAtPut`). Prints the number of objects stored where it comes to its end. */
const [source, target, dataset, moment] = process.argv.slice(2) as [string, string, string, string];
const from = await openRepository(source);
const to = await openRepository(target);
const stored = dieAtPut(to.bucket, moment);
await copyVersions({ from, to, dataset });
console.log(stored());
await to.bucket.close();
await from.bucket.close();
