import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FaultPoint } from '../../system/fault.ts';
import { type Caller, createCaller } from '../csi/caller.ts';
import { createCluster, type TestCluster } from '../csi/cluster.ts';
import type { ClusterNode } from '../csi/cluster-node.ts';
import { type SmallDisk, smallDisk } from '../support/small-disk.ts';

/** A cluster of which a node ends at a fault point, and is started again by what watches it, as kubelet does. */
export interface FaultWorld {
  readonly cluster: TestCluster;
  /** Where faults happen. */
  readonly node: ClusterNode;
  readonly call: Caller;
  /** Another node, which is not started until a life needs it. */
  readonly other: ClusterNode;
  readonly callOther: Caller;
  /** The source of the dataset `numbers`. */
  readonly source: string;
  /** The process of `node` that passes this point next ends there. */
  arm(point: FaultPoint): void;
  /** The process that ended at the point; undefined where none has. */
  passed(): Death | undefined;
  /** No process ends any more. */
  disarm(): void;
  /** The node's machine crashes, and stays down until `revive`. */
  crash(): Promise<void>;
  revive(): void;
  /** What ended the node's daemon since `arm`, each time, but for `crash`. */
  readonly ends: readonly (NodeJS.Signals | number)[];
  /** What the node's processes have said since `arm`. */
  logSince(): string;
  close(): Promise<void>;
}

export interface Death {
  readonly point: string;
  readonly pid: number;
  /** Whether it was the daemon, and not a process that works for it. */
  readonly isDaemon: boolean;
}

/** A node that comes back has not long to wait for its first sign of life. */
const env = { LARDER_HEARTBEAT: '1s' };

/** Room for the images of workspaces, which are sparse. In bytes. */
const DISK = 3 * 2 ** 30;

export async function createFaultWorld(): Promise<FaultWorld> {
  await using stack = new AsyncDisposableStack();
  // With reflink, as a node should have it.
  const disks = await Promise.all([0, 1].map(() => smallDisk({ type: 'xfs', bytes: DISK })));
  for (const disk of disks) stack.use(disk);
  const cluster = stack.adopt(await createCluster(), (made) => made.close());
  const file = join(cluster.directory, 'fault');
  const cacheOf = (disk: SmallDisk) => join(disk.directory, 'cache');
  const node = cluster.node('a-node', { cache: cacheOf(disks[0]!), env: { ...env, LARDER_FAULT: file } });
  const other = cluster.node('another', { cache: cacheOf(disks[1]!), env });
  const source = join(cluster.directory, 'source');
  mkdirSync(join(source, 'deep'), { recursive: true });
  for (let i = 0; i < 10; i++) writeFileSync(join(source, `deep/${i}.bin`), `${i} `.repeat(1000));
  writeFileSync(join(source, 'tiny.txt'), 'tiny');
  await cluster.importDataset('numbers', source);
  await node.start();
  const [call, callOther] = [node, other].map(({ socket }) => stack.adopt(createCaller(socket), (one) => one.close()));

  const ends: (NodeJS.Signals | number)[] = [];
  const daemons = new Set([node.pid]);
  let isUp = true;
  let up = Promise.withResolvers<void>();
  let closing = false;
  let failed: unknown;
  let logged = 0;
  const watching = (async () => {
    for (let failures = 0; failures < 3; ) {
      const end = await node.ended();
      if (isUp && !closing) ends.push(end);
      if (!isUp) await up.promise;
      if (closing) return;
      const starting = node.start();
      daemons.add(node.pid);
      try {
        await starting;
        failures = 0;
      } catch (error) {
        // A point may be passed before any call is answered.
        failures += 1;
        failed = failures === 3 ? error : undefined;
      }
    }
  })();
  const held = stack.move();
  return {
    cluster,
    node,
    other,
    call: call!,
    callOther: callOther!,
    source,
    ends,

    async crash() {
      isUp = false;
      up = Promise.withResolvers();
      await node.crash();
    },
    revive() {
      isUp = true;
      up.resolve();
    },

    arm(point) {
      if (failed !== undefined) throw failed;
      ends.length = 0;
      logged = node.log().length;
      rmSync(`${file}.passed`, { force: true });
      writeFileSync(file, point);
    },

    disarm: () => rmSync(file, { force: true }),

    passed() {
      if (!existsSync(`${file}.passed`)) return undefined;
      const [point, pid] = readFileSync(`${file}.passed`, 'utf8').split(' ');
      return { point: point as string, pid: Number(pid), isDaemon: daemons.has(Number(pid)) };
    },

    logSince: () => node.log().slice(logged),

    async close() {
      closing = true;
      up.resolve();
      await held.disposeAsync();
      await watching;
    },
  };
}
