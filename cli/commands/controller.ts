import type { Command } from 'commander';
import { logCalls } from '../csi-log.ts';
import { type DaemonOptions, logFormatOption, requireEndpoint, untilAborted } from '../daemon.ts';
import { withExamples } from '../help.ts';
import type { Start } from '../session.ts';
import { larderVersion } from '../version.ts';

/** `larder controller …` */
export function addController(program: Command, start: Start): void {
  const controller = program
    .command('controller')
    .summary('the control plane')
    .description('The control plane: volumes and snapshots as records in the repository.');
  const command = controller
    .command('serve')
    .description("Answers CSI's controller calls on CSI_ENDPOINT until it is told to end.")
    .addOption(logFormatOption())
    .action(async ({ logFormat }: DaemonOptions, command: Command) => {
      const session = start(command);
      const { signal } = session;
      const endpoint = requireEndpoint(session);
      const { giveUp } = session.nodeSettings();
      const log = await session.openLog('controller', logFormat);
      const repository = await session.openRepository();
      const [{ startPlugin }, { createNodeObserver }, { createAsks }] = await Promise.all([
        import('../../csi/plugin.ts'),
        import('../../controller/nodes.ts'),
        import('../../controller/asks.ts'),
      ]);
      const server = await startPlugin({
        endpoint,
        version: larderVersion(),
        repository,
        controller: {
          nodes: createNodeObserver({ repository, ...(giveUp !== undefined && { window: giveUp }) }),
          asks: createAsks({ repository }),
        },
        log: logCalls(log),
      });
      log.info(`answering CSI's controller calls on ${endpoint}`, { repository: repository.location });
      await untilAborted(signal);
      await server.close();
    });
  withExamples(command, [
    [
      'controller serve --repository /srv/datasets',
      'Serve the controller; CSI_ENDPOINT=unix:///run/csi/csi.sock says where',
    ],
  ]);
  withExamples(controller, [['controller serve', 'Serve the controller']]);
}
