import type { Command } from 'commander';
import { requireEndpoint, untilAborted } from '../daemon.ts';
import { withExamples } from '../help.ts';
import type { Start } from '../session.ts';
import { larderVersion } from '../version.ts';

/** `larder controller …` */
export function addController(program: Command, start: Start): void {
  const controller = program
    .command('controller')
    .summary('the control plane')
    .description('The control plane: volumes as records in the repository.');
  const command = controller
    .command('serve')
    .description("Answers CSI's controller calls on CSI_ENDPOINT until it is told to end.")
    .action(async (_options: object, command: Command) => {
      const session = start(command);
      const { output, signal } = session;
      const endpoint = requireEndpoint(session);
      const repository = await session.openRepository();
      const [{ startPlugin }, { callLine }] = await Promise.all([
        import('../../csi/plugin.ts'),
        import('../../csi/call.ts'),
      ]);
      const server = await startPlugin({
        endpoint,
        version: larderVersion(),
        repository,
        controller: true,
        log: (record) => output.note(callLine(record)),
      });
      output.note(`answering CSI's controller calls on ${endpoint}, for ${repository.location}`);
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
