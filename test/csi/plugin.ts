import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Repository } from '../../dataset/repository.ts';
import { createCluster } from './cluster.ts';
import type { ClusterNode } from './cluster-node.ts';

/** A whole plugin as it is run: the node's daemon with the controller, its keeper, and a repository for it. */
export interface TestPlugin extends Omit<ClusterNode, 'close'> {
  /** Of all of it: the cache, the runtime directory and the repository are below. */
  readonly directory: string;
  readonly repository: Repository;
  /** Imports a directory as the next version of a dataset. @returns the version's id */
  importDataset(dataset: string, source: string): Promise<string>;
  /** The names of volumes' records in the repository. */
  records(): string[];
  close(): Promise<void>;
}

export interface PluginOptions {
  /** Its cache's directory, on a disk of its own say (test/support/small-disk.ts); below the plugin's if not said. */
  readonly cache?: string;
  /** Its environment, each time that it is started. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A cluster of one node. */
export async function createPlugin(options: PluginOptions = {}): Promise<TestPlugin> {
  const cluster = await createCluster();
  const { directory, repository } = cluster;
  const node = cluster.node('a-node', { directory, ...options });
  return {
    ...node,
    get pid() {
      return node.pid;
    },
    repository,
    importDataset: cluster.importDataset,
    records: () => readdirSync(join(repository.location, 'volumes')),
    close: cluster.close,
  };
}
