import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readVolume } from '../../controller/volumes.ts';
import type { Repository } from '../../dataset/repository.ts';
import { type Caller, createCaller } from '../csi/caller.ts';
import { mountCapability } from '../csi/client.ts';
import { createCluster, type TestCluster } from '../csi/cluster.ts';
import type { ClusterNode } from '../csi/cluster-node.ts';
import { type VolumeCalls, volumeCalls } from '../csi/volume.ts';
import { digestsOfVersion, type TreeDigests } from '../support/digests.ts';
import { type SmallDisk, smallDisk } from '../support/small-disk.ts';

const MAIN = join(import.meta.dirname, '../../bin/larder.mjs');

/** Nodes with caches on XFS, where images are reflinked, and a small dataset `numbers`. Nothing is saved by itself. */
export interface SnapshotWorld extends AsyncDisposable {
  readonly cluster: TestCluster;
  readonly repository: Repository;
  readonly nodes: readonly TestNode[];
  /** Runs the program with `--json` beside the nodes. @returns its documents */
  larder(...args: readonly string[]): Record<string, unknown>[];
  contentOf(version: string): Promise<TreeDigests>;
  /** What a volume's record has. */
  savedOf(volumeId: string): Promise<TreeDigests>;
}

export interface TestNode {
  readonly node: ClusterNode;
  readonly call: Caller;
  readonly disk: SmallDisk;
  /** Creates a workspace, stages it and publishes it for a pod. */
  volume(name: string, request?: object): Promise<LiveVolume>;
}

export interface LiveVolume extends VolumeCalls {
  readonly name: string;
  /** Where the pod has it. */
  readonly directory: string;
  end(): Promise<void>;
}

const writers = mountCapability('SINGLE_NODE_MULTI_WRITER');

export async function createSnapshotWorld(names: readonly string[], diskBytes = 3 * 2 ** 30): Promise<SnapshotWorld> {
  await using stack = new AsyncDisposableStack();
  const cluster = await createCluster();
  const disks: SmallDisk[] = [];
  for (const _ of names) disks.push(stack.use(await smallDisk({ type: 'xfs', bytes: diskBytes })));
  stack.defer(() => cluster.close());
  const source = join(cluster.directory, 'source');
  mkdirSync(join(source, 'deep'), { recursive: true });
  for (let i = 0; i < 8; i++) writeFileSync(join(source, 'deep', `${i}.bin`), `${i} `.repeat(500 + i));
  await cluster.importDataset('numbers', source);
  const nodes: TestNode[] = [];
  for (const [at, name] of names.entries()) {
    const disk = disks[at] as SmallDisk;
    const node = cluster.node(name, { cache: join(disk.directory, 'cache'), env: { LARDER_AUTOSAVE: 'off' } });
    await node.start();
    const call = createCaller(node.socket);
    stack.defer(() => call.close());
    nodes.push({ node, call, disk, volume: (volume, request) => live(call, node, volume, request) });
  }
  const { repository } = cluster;
  const held = stack.move();
  return {
    cluster,
    repository,
    nodes,
    larder(...args) {
      const env = {
        ...process.env,
        LARDER_REPOSITORY: repository.location,
        LARDER_RUNTIME: nodes[0]!.node.runtime,
        LARDER_AUTHOR: 'Ada Lovelace',
      };
      const ended = spawnSync(process.execPath, [MAIN, ...args, '--json'], { env, encoding: 'utf8' });
      if (ended.status !== 0) throw new Error(`larder ${args.join(' ')} ended with ${ended.status}: ${ended.stderr}`);
      const lines = ended.stdout.split('\n').filter((line) => line !== '');
      return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    },
    contentOf: (version) => digestsOfVersion(repository, version as never),
    savedOf: async (volumeId) => await digestsOfVersion(repository, (await readVolume(repository, volumeId)).version),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

async function live(call: Caller, node: ClusterNode, name: string, request: object = {}): Promise<LiveVolume> {
  const { volume } = await call.call('CreateVolume', {
    name,
    volumeCapabilities: [writers],
    capacityRange: { requiredBytes: 400 * 2 ** 20 },
    parameters: { dataset: 'numbers' },
    ...request,
  });
  const calls = volumeCalls(call, node.directory, volume.volumeId, writers);
  await calls.stage();
  await calls.publish('pod');
  return {
    ...calls,
    name,
    directory: calls.targetOf('pod'),
    async end() {
      await calls.unpublish('pod');
      await calls.unstage();
      await call.call('DeleteVolume', { volumeId: calls.volumeId });
    },
  };
}

export interface SnapshotMessage {
  readonly snapshotId: string;
  readonly sourceVolumeId: string;
  readonly readyToUse: boolean;
}

export async function untilReady(call: Caller, snapshotId: string, node: ClusterNode): Promise<void> {
  const end = performance.now() + 60_000;
  for (;;) {
    const { snapshot } = await call.call('GetSnapshot', { snapshotId });
    if (snapshot.readyToUse) return;
    if (performance.now() > end) throw new Error(`snapshot ${snapshotId} does not become ready: ${node.log()}`);
    await sleep(100);
  }
}
