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
    let processes: number[] = [];
    const stop = async () => {
      if (processes.length === 0) return;
      await program.run('unmount', root);
      await program.stop();
      processes = [];
    };
    return {
      root,
      bucket: stored.bucket,
      async start() {
        await program.run('mount', stored.dataset, root);
        processes = [await program.daemon()];
      },
      processes: () => withChildren(processes),
      stop,
      clearCache: () => rmSync(program.cache, { recursive: true, force: true }),
      [Symbol.asyncDispose]: stop,
    };
  },
};
