import type { Command } from 'commander';
import type { Volumes } from '../../node/service.ts';
import { untilAborted } from '../daemon.ts';
import { withExamples } from '../help.ts';
import { kernelReport, lackLines } from '../kernel-report.ts';
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
    .action(async (options: { readonly controller?: boolean }, command: Command) => {
      const session = start(command);
      const { environment, output, signal } = session;
      const settings = session.nodeSettings();
      const { startNode } = await import('../../node/daemon.ts');
      const { cache, runtime } = environment;
      await using running = await startNode({ ...settings, cache, runtime, onWarning: (text) => output.warn(text) });
      output.note(`serving this node: cache ${cache}, runtime ${runtime}`);
      for (const line of lackLines(await kernelReport(environment))) output.warn(line);
      await using _csi = await serveCsi(session, running.node.volumes, options.controller === true);
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
async function serveCsi(session: Session, volumes: Volumes, controller: boolean): Promise<AsyncDisposable | undefined> {
  const { environment, output } = session;
  const endpoint = environment.csiEndpoint;
  if (endpoint === undefined) return undefined;
  const repository = await session.openRepository();
  const [{ startPlugin }, { callLine }, { nodeServiceOf }] = await Promise.all([
    import('../../csi/plugin.ts'),
    import('../../csi/call.ts'),
    import('../../node/service.ts'),
  ]);
  const server = await startPlugin({
    endpoint,
    version: larderVersion(),
    repository,
    controller,
    node: { id: environment.node, service: nodeServiceOf(volumes, repository.location) },
    log: (record) => output.note(callLine(record)),
  });
  output.note(`answering CSI's ${controller ? 'node and controller' : 'node'} calls on ${endpoint}`);
  return { [Symbol.asyncDispose]: () => server.close() };
}
