import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { importDirectory } from '../../dataset/import.ts';
import { initRepository, type Repository } from '../../dataset/repository.ts';
import { type ClusterNode, type ClusterNodeOptions, createClusterNode } from './cluster-node.ts';

/** Several nodes on one repository, each with its own cache, runtime directory, socket and name. */
export interface TestCluster {
  readonly directory: string;
  readonly repository: Repository;
  /** Makes a node, which is not started. */
  node(
    name: string,
    options?: Partial<Pick<ClusterNodeOptions, 'directory' | 'cache' | 'env' | 'repository'>>,
  ): ClusterNode;
  /** Imports a directory as the next version of a dataset. @returns the version's id */
  importDataset(dataset: string, source: string): Promise<string>;
  /** The names of volumes' records in the repository. */
  records(): Promise<string[]>;
  /** All that volumes may leave in the repository besides versions and branches. */
  leftovers(): Promise<string[]>;
  close(): Promise<void>;
}

/** @param location where the repository is to be made; below the cluster's directory if not said */
export async function createCluster(location?: string): Promise<TestCluster> {
  const directory = mkdtempSync(join(tmpdir(), 'larder-csi-'));
  process.env.LARDER_STATE = join(directory, 'state');
  const place = location ?? join(directory, 'repository');
  if (location === undefined) mkdirSync(place);
  const repository = await initRepository(place);
  const nodes: ClusterNode[] = [];
  const keysBelow = async (prefix: string) => {
    const keys: string[] = [];
    for await (const { key } of repository.bucket.list(prefix)) keys.push(key);
    return keys;
  };

  return {
    directory,
    repository,

    node(name, options) {
      const node = createClusterNode({ name, directory: join(directory, name), repository: place, ...options });
      nodes.push(node);
      return node;
    },

    async importDataset(dataset, source) {
      const { version } = await importDirectory({
        repository,
        source,
        dataset,
        branch: 'main',
        message: 'for a test',
        author: 'a test',
      });
      return version.id;
    },

    records: async () => (await keysBelow('volumes/')).map((key) => key.slice('volumes/'.length)),

    leftovers: async () => [
      ...(await keysBelow('volumes/')),
      ...(await keysBelow('snapshots/')),
      ...(await keysBelow('groups/')),
      ...(await keysBelow('nodes/')).filter((key) => !key.endsWith('/alive')),
    ],

    async close() {
      const ends = await Promise.allSettled(nodes.map((node) => node.close()));
      await repository.bucket.close();
      rmSync(directory, { recursive: true, maxRetries: 5 });
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
    },
  };
}
