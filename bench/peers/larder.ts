import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { larderIn } from '../larder.ts';
import { withChildren } from '../processes.ts';
import type { Peer } from './peer.ts';

export const larder: Peer = {
  name: 'Larder',
  install: async () => undefined,
  async open({ directory, link, stored }) {
    const program = larderIn(directory, link.location(stored.bucket));
    const root = join(directory, 'mount');
    mkdirSync(root);
    let daemon: number | undefined;
    const stop = async () => {
      if (daemon !== undefined) await program.run('unmount', root);
      daemon = undefined;
      // Also where mounting failed and a daemon runs all the same.
      await program.stop();
    };
    return {
      root,
      bucket: stored.bucket,
      async start() {
        await program.run('mount', stored.dataset, root);
        daemon = await program.daemon();
      },
      processes: () => (daemon === undefined ? [] : withChildren([daemon])),
      stop,
      clearCache: () => rmSync(program.cache, { recursive: true, force: true }),
      [Symbol.asyncDispose]: stop,
    };
  },
};
