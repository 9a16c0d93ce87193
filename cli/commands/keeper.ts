import { mkdir } from 'node:fs/promises';
import type { Command } from 'commander';
import { runtimePaths } from '../../node/paths.ts';
import { type DaemonOptions, logFormatOption } from '../daemon.ts';
import { withExamples } from '../help.ts';
import type { Start } from '../session.ts';

/** `larder keeper` */
export function addKeeper(program: Command, start: Start): void {
  const command = program
    .command('keeper')
    .summary("keep mounts alive while the node's daemon restarts")
    .description(
      "Holds the ring's descriptor while the node's daemon restarts, so that opens wait instead of failing. Runs until it is told to end. 'larder mount' starts one where none runs; in a cluster it is a pod of its own.",
    )
    .addOption(logFormatOption())
    .action(async ({ logFormat }: DaemonOptions, command: Command) => {
      const session = start(command);
      const { environment, signal } = session;
      const log = await session.openLog('keeper', logFormat);
      const { runKeeper } = await import('../../mount/keeper.ts');
      await mkdir(environment.runtime, { recursive: true, mode: 0o700 });
      const { keeperSocket: socket } = runtimePaths(environment.runtime);
      await runKeeper({ socket, signal, onEvent: (event) => log.info(event) });
    });
  withExamples(command, [['keeper', 'Run the keeper in the foreground']]);
}
