import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { AsksOptions } from '../../controller/asks.ts';
import { UnavailableError } from '../../dataset/errors.ts';
import type { Repository } from '../../dataset/repository.ts';
import type { RunningNode } from '../../node/daemon.ts';
import type { Logger } from '../../node/log.ts';
import { logCalls } from '../csi-log.ts';
import { type DaemonOptions, logFormatOption, untilAborted } from '../daemon.ts';
import { withExamples } from '../help.ts';
import { kernelReport, lackLines } from '../kernel-report.ts';
import { createRegistry, type NodeRegistry } from '../registry.ts';
import type { Session, Start } from '../session.ts';
import { larderVersion } from '../version.ts';

/** `larder node …` */
export function addNode(program: Command, start: Start): void {
  const node = program
    .command('node')
    .summary("the node's daemon")
    .description("The node's daemon: mounts versions, and fetches what is read of them.");
  const command = node
    .command('serve')
    .description(
      "Runs the node's daemon until it is told to end; mounts outlive it. Answers the command line on a socket in LARDER_RUNTIME, and CSI's node calls on CSI_ENDPOINT where that is set.",
    )
    .option('--controller', "also answer CSI's controller calls")
    .addOption(logFormatOption())
    .action(async (options: DaemonOptions & { readonly controller?: boolean }, command: Command) => {
      const session = start(command);
      const { environment, signal } = session;
      const settings = session.nodeSettings();
      const log = await session.openLog('node', options.logFormat);
      const { startNode } = await import('../../node/daemon.ts');
      const { cache, runtime } = environment;
      const version = larderVersion();
      const registry = createRegistry(environment.node, settings);
      await using running = await startNode({ ...settings, registry, cache, runtime, log, version });
      log.info(`serving this node: cache ${cache}, runtime ${runtime}`, { cache, runtime });
      const { metricsPort } = running;
      if (metricsPort !== undefined) log.info(`serving /metrics and /healthz on port ${metricsPort}`, { metricsPort });
      for (const line of lackLines(await kernelReport(environment))) log.warn(line);
      const csi = serveCsi(session, log, running, registry, options.controller === true);
      await using _csi = await Promise.race([csi, running.node.failed]);
      await Promise.race([untilAborted(signal), running.node.failed]);
    });
  withExamples(command, [
    ['node serve', 'Run the daemon in the foreground'],
    [
      'node serve --controller --repository /srv/datasets',
      'Node and controller in one; CSI_ENDPOINT=unix:///run/csi/csi.sock says where',
    ],
  ]);
  withExamples(node, [['node serve', 'Run the daemon in the foreground']]);
}

/** Answers CSI calls where CSI_ENDPOINT says so. */
async function serveCsi(
  session: Session,
  log: Logger,
  { node: { volumes, snapshots }, health }: RunningNode,
  registry: NodeRegistry,
  controller: boolean,
): Promise<AsyncDisposable | undefined> {
  const { environment } = session;
  const endpoint = environment.csiEndpoint;
  if (endpoint === undefined) return undefined;
  const repository = await openPatiently(session, log);
  if (repository === undefined) return undefined;
  const [nodes, { startPlugin }, { createAsks }, { nodeServiceOf }, { aboutVolume }] = await Promise.all([
    registry.observerOf(repository),
    import('../../csi/plugin.ts'),
    import('../../controller/asks.ts'),
    import('../../node/service.ts'),
    import('../../node/log.ts'),
  ]);
  const about = (volume: string) => {
    const record = volumes.records.get(volume);
    return record === undefined ? {} : aboutVolume(record);
  };
  const local: AsksOptions['local'] = snapshots && {
    node: environment.node,
    handle: (ask, signal) => snapshots.handle(repository, ask, signal),
  };
  await using stack = new AsyncDisposableStack();
  if (snapshots !== undefined) stack.use(snapshots.serve(repository));
  const server = await startPlugin({
    endpoint,
    version: larderVersion(),
    repository,
    ...(controller && { controller: { nodes, asks: createAsks({ repository, ...(local && { local }) }) } }),
    node: { id: environment.node, service: nodeServiceOf(volumes, repository.location, log), health },
    log: logCalls(log, about),
  });
  // Signs of life tell how much room the node has; if they cannot begin now, they do with the first volume.
  volumes.saves.membership(repository.location).catch((error) => {
    log.warn(`no sign of life is given yet: ${(error as Error).message}`, { error });
  });
  log.info(`answering CSI's ${controller ? 'node and controller' : 'node'} calls on ${endpoint}`);
  stack.defer(() => server.close());
  return stack.move();
}

/** What is staged needs no repository: a daemon that is started while one is away does not end for it. Undefined when it is told to end. */
async function openPatiently(session: Session, log: Logger): Promise<Repository | undefined> {
  const { signal } = session;
  for (let pause = 1000; !signal.aborted; pause = Math.min(30_000, pause * 2)) {
    try {
      return await session.openRepository();
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      if (signal.aborted) break;
      log.error(`CSI calls are answered once the repository can be opened: ${error.message}`, {
        error,
        repeats: 'csi',
      });
    }
    await sleep(pause, undefined, { signal }).catch(() => {});
  }
  return undefined;
}
