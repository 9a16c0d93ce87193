/**
 * Hydrates a version over and over, until it is killed: `REPOSITORY ROOT CACHE [once | NUMBER]`. Prints a line when the first
 * object is in place. With `once` it ends when everything is there; with a number, it kills itself when it has put so many objects in place.
 */
import { openCache } from '../../cache/cache.ts';
import { createHydrator } from '../../cache/hydrate.ts';
import { stage } from '../../cache/staged.fixture.ts';
import type { Digest } from '../../dataset/digest.ts';
import { readSegment } from '../../dataset/manifest.ts';
import { openRepository } from '../../dataset/repository.ts';

const [location, root, directory, mode] = process.argv.slice(2) as [string, Digest, string, string | undefined];
const cache = await openCache({ directory });
const repository = await openRepository(location);
const staged = await stage(repository, root);
const hydrator = createHydrator({ cache, threads: 1 + (process.pid % 2) });
hydrator.register(staged);
const ids: Digest[] = [];
for (const segment of staged.map.segments) {
  for (const entry of await readSegment(repository, segment)) {
    if (entry.type === 'file' && entry.content.kind !== 'inline') ids.push(entry.content.id);
  }
}
let placed = 0;
cache.onPlaced(() => {
  placed += 1;
  if (placed === 1) process.stdout.write('begun\n');
  if (placed === Number(mode)) process.kill(process.pid, 'SIGKILL');
});
do {
  const opened = ids
    .filter(() => Math.random() < 0.1)
    .map(async (id) => {
      await hydrator.hydrate(id);
      cache.ensureLate(id);
    });
  await Promise.all([hydrator.prefetch(staged), ...opened]);
  if (mode !== 'once') for (const id of ids) cache.remove(id);
} while (mode !== 'once');
await hydrator.close();
await repository.bucket.close();
await cache.close();
