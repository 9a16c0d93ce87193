import { closeSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { openCache } from '../../cache/cache.ts';
import { createHydrator } from '../../cache/hydrate.ts';
import { callLine } from '../../csi/call.ts';
import { startPlugin } from '../../csi/plugin.ts';
import type { Digest } from '../../dataset/digest.ts';
import { mountRing } from '../../mount/fuse/ring-server.ts';
import { unmount } from '../../mount/unmount.ts';
import { runtimePaths } from '../../node/paths.ts';
import { createRepositories } from '../../node/repositories.ts';
import { createVolumes, nodeServiceOf } from '../../node/service.ts';

const [directory, location] = process.argv.slice(2) as [string, string];
const paths = runtimePaths(join(directory, 'runtime'));
mkdirSync(paths.ring, { recursive: true });
const cache = await openCache({ directory: join(directory, 'cache') });
const hydrator = createHydrator({ cache });
const ring = await mountRing(paths.ring, {
  resolve: async (id, signal) => {
    const outcome = await hydrator.hydrate(id as Digest, { signal });
    if (outcome === 'ready') cache.ensureLate(id as Digest);
    return outcome;
  },
  deadline: 30_000,
});
const repositories = createRepositories();
const volumes = createVolumes({ cache, hydrator, paths, repositories });
await volumes.recover((message) => console.error(message));
const plugin = await startPlugin({
  endpoint: `unix://${directory}/csi.sock`,
  version: '0',
  repository: await repositories.at(location),
  controller: true,
  node: { id: 'a-node', service: nodeServiceOf(volumes, location) },
  log: (record) => console.error(callLine(record)),
});
console.log('ready');
process.once('SIGTERM', async () => {
  await plugin.close();
  await ring.release();
  await unmount(paths.ring);
  closeSync(ring.fd);
  await hydrator.close();
  await cache.close();
  await repositories.close();
});
