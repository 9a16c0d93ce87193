import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePorts } from '../support/free-port.ts';
import type { Random } from '../support/random.ts';

/** The nodes as each other's neighbours: a list in a file, which changes. */
export interface Peers {
  /** Of the node with this number. */
  environment(node: number): Record<string, string>;
  /** Lists some of the nodes, and now and then one that does not answer. */
  write(random: Random): void;
}

/** Where nobody listens. */
const NOBODY = '127.0.0.1:9';

export async function createPeers(directory: string, count: number): Promise<Peers> {
  const file = join(directory, 'neighbours');
  const addresses = (await freePorts(count)).map((port) => `127.0.0.1:${port}`);
  const put = (lines: readonly string[]) => {
    writeFileSync(`${file}.new`, `${lines.join('\n')}\n`);
    renameSync(`${file}.new`, file);
  };
  put(addresses);
  return {
    environment: (node) => ({
      LARDER_NEIGHBOURS: `file:${file}`,
      LARDER_NEIGHBOUR_LISTEN: addresses[node]!,
      LARDER_NEIGHBOUR_ADDRESS: addresses[node]!,
      LARDER_NEIGHBOUR_TLS: 'off',
      LARDER_NEIGHBOUR_STORE: '64M',
    }),
    write: (random) => put([...addresses.filter(() => !random.oneIn(3)), ...(random.oneIn(3) ? [NOBODY] : [])]),
  };
}
