import type { Command } from 'commander';
import type { Repository } from '../dataset/repository.ts';
import type { LogFormat, Logger } from '../node/log.ts';
import type { NeighbourSettings } from '../node/neighbours.ts';
import { type Environment, type Machine, readEnvironment } from './environment.ts';
import { readLogSettings } from './log-settings.ts';
import { readNeighbourSettings } from './neighbour-settings.ts';
import { type NodeSettings, readNodeSettings } from './node-settings.ts';
import { type ObservationSettings, readObservationSettings } from './observation-settings.ts';
import { createOutput, type Output, type Stream, wantsColor } from './output.ts';
import type { Keyboard } from './top/screen.ts';

/** The process around the program, passed in so that nothing reaches for it. */
export interface Host {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly machine: Machine;
  readonly stdout: Stream;
  readonly stderr: Stream;
  readonly stdin: Keyboard;
  /** Aborted when the user or a supervisor wants an end. */
  readonly signal: AbortSignal;
}

/** Options that every command takes. */
export interface GlobalOptions {
  readonly repository?: string;
  readonly json?: boolean;
}

/** What one run of a command works with. */
export interface Session {
  readonly environment: Environment;
  readonly output: Output;
  readonly signal: AbortSignal;
  /** Opens the repository that the environment names. */
  openRepository(): Promise<Repository>;
  /** What the environment says of a node's daemon. Throws InvalidError where that makes no sense. */
  nodeSettings(): NodeSettings & ObservationSettings & { readonly neighbours: NeighbourSettings | undefined };
  /** For commands that take the whole terminal. */
  readonly screen: { readonly terminal: Stream; readonly keyboard: Keyboard };
  /** A daemon's log, on standard error. Throws InvalidError where the environment's settings of it make no sense. */
  openLog(component: string, format?: LogFormat): Promise<Logger>;
}

/** Makes a command's session when the arguments are parsed. */
export type Start = (command: Command) => Session;

/**
 * @param ends what is to be done when the command is over: its output flushed, its repositories closed
 * @param onLog told of a log for programs, in which what ends the command belongs
 */
export function createStart(host: Host, ends: AsyncDisposableStack, onLog?: (log: Logger) => void): Start {
  return (command) => {
    const options = command.optsWithGlobals<GlobalOptions>();
    const environment = readEnvironment(host.env, host.machine, options.repository);
    const output = createOutput({
      stdout: host.stdout,
      stderr: host.stderr,
      json: options.json === true,
      color: wantsColor(host.stdout, host.env),
    });
    ends.defer(() => output.drain());
    return {
      environment,
      output,
      signal: host.signal,
      get screen() {
        return { terminal: host.stdout, keyboard: host.stdin };
      },
      nodeSettings: () => ({
        ...readNodeSettings(host.env),
        ...readObservationSettings(host.env),
        neighbours: readNeighbourSettings(host.env),
      }),
      openLog: async (component, format) => {
        const terminal = host.stderr.isTTY === true;
        const settings = readLogSettings(host.env, { format, json: options.json === true, terminal });
        const { createLogger } = await import('../node/log.ts');
        const log = createLogger({ ...settings, component, write: (text) => host.stderr.write(text) });
        ends.defer(() => log[Symbol.dispose]());
        if (settings.format === 'json') onLog?.(log);
        return log;
      },
      openRepository: async () => {
        // Loaded when it is needed: help and wrong use must not wait for it.
        const { openRepository } = await import('../dataset/repository.ts');
        const repository = await openRepository(environment.repository);
        ends.defer(async () => {
          const { closeSources } = await import('../dataset/source/sources.ts');
          await closeSources(repository);
          await repository.bucket.close();
        });
        return repository;
      },
    };
  };
}
