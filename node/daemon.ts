import { rmSync, writeFileSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { join } from 'node:path';
import { aboutVolume } from './log.ts';
import { type Node, type NodeOptions, openNode } from './node.ts';
import type { Observation, ObservationOptions } from './observation.ts';
import type { Handlers } from './server.ts';

export interface RunningNode extends AsyncDisposable {
  readonly node: Node;
  /** Where metrics and health are served besides the socket, if they are. */
  readonly metricsPort?: number;
  readonly health: Observation['health'];
  /** Stops listening and lets go; mounts stay. */
  close(): Promise<void>;
}

/**
 * The node's daemon: opens everything and listens on the runtime directory's socket. Errors: UnavailableError where another
 * daemon has the cache.
 */
export async function startNode(options: NodeOptions & ObservationOptions): Promise<RunningNode> {
  await using stack = new AsyncDisposableStack();
  const startedAt = new Date().toISOString();
  const node = stack.use(await openNode(options));
  // Behind the ring, which is served by now: answering calls and being observed take as long to load as all before.
  const [{ createCacheCalls }, { logged }, { createMountCalls, mountedVolume }, { observeNode }, { listen }] =
    await Promise.all([
      import('./cache-calls.ts'),
      import('./call-log.ts'),
      import('./calls.ts'),
      import('./observation.ts'),
      import('./server.ts'),
    ]);
  const { volumes, hydrator, paths } = node;
  const observation = stack.use(await observeNode(node, options));

  const handlers: Handlers = {
    ...createMountCalls(node),
    ...createCacheCalls(node),
    status: async () => ({
      pid: process.pid,
      startedAt,
      cache: node.cache.layout.directory,
      runtime: paths.directory,
      keeper: node.ring.keeperPid() !== undefined,
      keeperPid: node.ring.keeperPid(),
      volumes: volumes.records.all().map((record) => mountedVolume(record, node)),
      waiting: hydrator.waiting,
      health: await observation.health(),
      state: await observation.state(),
    }),
    stats: observation.stats,
  };
  const mountedOn = (directory: string) => {
    const record = volumes.records.at(directory);
    return record === undefined ? {} : aboutVolume(record);
  };
  const server = await listen(paths.socket, logged(handlers, options.log, mountedOn), observation.pages);
  stack.defer(async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  });
  const pidFile = join(paths.directory, 'node.pid');
  writeFileSync(pidFile, `${process.pid}\n`);
  stack.defer(() => rmSync(pidFile, { force: true }));
  // A daemon that is killed has no end at which Node would do it: its successors load what this one compiled.
  flushCompileCache();
  const held = stack.move();
  const close = () => held.disposeAsync();
  const { health, port } = observation;
  return { node, health, metricsPort: port, close, [Symbol.asyncDispose]: close };
}
