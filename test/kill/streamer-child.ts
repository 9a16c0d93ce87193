/** Reads an object here and there by its pieces until it is killed: `REPOSITORY ROOT CACHE ID SIZE`. Prints a line for each read. */
import { openCache } from '../../cache/cache.ts';
import { createHydrator } from '../../cache/hydrate.ts';
import { stage } from '../../cache/staged.fixture.ts';
import { createStreams } from '../../cache/stream/streams.ts';
import type { Digest } from '../../dataset/digest.ts';
import { openRepository } from '../../dataset/repository.ts';

const [location, root, directory, id, size] = process.argv.slice(2) as [string, Digest, string, Digest, string];
const cache = await openCache({ directory });
const repository = await openRepository(location);
const hydrator = createHydrator({ cache, threads: 1 });
hydrator.register(await stage(repository, root));
const streams = createStreams({
  cache,
  crew: hydrator.crew,
  locate: hydrator.locate,
  isStaged: hydrator.knows,
});
const file = (await streams.open(id))!;
for (;;) {
  await file.read(Math.floor(Math.random() * Number(size)), 1000);
  process.stdout.write('read\n');
}
