import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ServiceError } from '@grpc/grpc-js';
import { readVolume } from '../../controller/volumes.ts';
import { listBranches, type StoredRef } from '../../dataset/refs.ts';
import { type Caller, createCaller } from '../csi/caller.ts';
import { mountCapability } from '../csi/client.ts';
import { createCluster, type TestCluster } from '../csi/cluster.ts';
import type { ClusterNode } from '../csi/cluster-node.ts';
import { type VolumeCalls, volumeCalls } from '../csi/volume.ts';
import { digestsOfVersion, type TreeDigests } from '../support/digests.ts';
import { smallDisk } from '../support/small-disk.ts';

/** After how long a node is given up here, in milliseconds: a tenth of the usual. */
export const GIVE_UP = 4_000;

export interface LossNode {
  readonly node: ClusterNode;
  readonly caller: Caller;
  /** The calls of a volume's life here. */
  of(volumeId: string): VolumeCalls;
}

/** Two nodes with disks of their own on one repository that has a small dataset, `numbers`. */
export interface LossWorld extends AsyncDisposable {
  readonly cluster: TestCluster;
  readonly first: LossNode;
  readonly second: LossNode;
  /** @param autosave as the parameter has it @returns the volume's id */
  createWorkspace(name: string, autosave: string): Promise<string>;
  /** What the record says that its content is, as the repository has it. */
  savedIn(volumeId: string): Promise<TreeDigests>;
  /** What the nodes have said. */
  logs(): string;
  /**
   * What volumes have left on the nodes. Not what is kept for a while of workspaces that were released with all saved, so that they can be staged
   * there again at once.
   */
  leftovers(): string[];
  /** Branches of what was set aside. */
  asides(): Promise<StoredRef[]>;
}

const writers = mountCapability('SINGLE_NODE_MULTI_WRITER');
const DISK = 2 * 2 ** 30;

/**
 * @param location where the repository is made; in a directory if not said
 * @param seenByFirst the same, by another way
 */
export async function createLossWorld(location?: string, seenByFirst?: string): Promise<LossWorld> {
  await using stack = new AsyncDisposableStack();
  const disks = await Promise.all([0, 1].map(() => smallDisk({ type: 'xfs', bytes: DISK })));
  for (const disk of disks) stack.use(disk);
  const cluster = stack.adopt(await createCluster(location), (made) => made.close());
  const { repository } = cluster;
  const source = join(cluster.directory, 'source');
  mkdirSync(source);
  for (let i = 0; i < 10; i++) writeFileSync(join(source, `${i}.bin`), `${i} `.repeat(1000));
  await cluster.importDataset('numbers', source);

  const start = async (name: string, at: number, way?: string): Promise<LossNode> => {
    const node = cluster.node(name, {
      cache: join(disks[at]!.directory, 'cache'),
      env: { LARDER_HEARTBEAT: '1s', LARDER_GIVE_UP: `${GIVE_UP / 1000}s` },
      ...(way !== undefined && { repository: way }),
    });
    await node.start();
    const caller = stack.adopt(createCaller(node.socket), (made) => made.close());
    return { node, caller, of: (volumeId) => volumeCalls(caller, node.directory, volumeId, writers) };
  };
  const [first, second] = await Promise.all([start('first', 0, seenByFirst), start('second', 1)]);
  const held = stack.move();
  return {
    cluster,
    first,
    second,

    async createWorkspace(name, autosave) {
      const { volume } = await second.caller.call('CreateVolume', {
        name,
        volumeCapabilities: [writers],
        capacityRange: { requiredBytes: String(300 * 2 ** 20) },
        parameters: { dataset: 'numbers', autosave },
      });
      return volume.volumeId;
    },

    async savedIn(volumeId) {
      const { version } = await readVolume(repository, volumeId);
      return await digestsOfVersion(repository, version);
    },

    logs: () => [first, second].map(({ node }) => node.log()).join(''),

    leftovers: () => [first, second].flatMap(({ node }) => leftoversOf(node)),

    async asides() {
      const branches = await listBranches(repository, 'numbers');
      return branches.filter(({ name }) => name.startsWith('aside/'));
    },

    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

function leftoversOf(node: ClusterNode): string[] {
  const left = node.leftovers();
  const released = left
    .filter((name) => name.startsWith('workspaces/') && name.endsWith('.json'))
    .filter((name) => JSON.parse(readFileSync(join(node.cache, name), 'utf8')).lease?.state === 'released')
    .map((name) => name.slice(0, -'json'.length));
  const isKept = (name: string) => released.some((prefix) => name.startsWith(prefix));
  return left.filter((name) => !isKept(name));
}

/** Until something is no longer refused, which it must be at first. @returns what it was refused with */
export async function untilAllowed(attempt: () => Promise<unknown>): Promise<ServiceError[]> {
  const refusals: ServiceError[] = [];
  for (;;) {
    try {
      await attempt();
      return refusals;
    } catch (error) {
      refusals.push(error as ServiceError);
      if (refusals.length > 300) throw error;
      await sleep(200);
    }
  }
}
