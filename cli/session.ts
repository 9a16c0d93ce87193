import type { Command } from 'commander';
import type { Repository } from '../dataset/repository.ts';
import { type Environment, type Machine, readEnvironment } from './environment.ts';
import { createOutput, type Output, type Stream, wantsColor } from './output.ts';

/** The process around the program, passed in so that nothing reaches for it. */
export interface Host {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly machine: Machine;
  readonly stdout: Stream;
  readonly stderr: Stream;
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
}

/** Makes a command's session when the arguments are parsed. */
export type Start = (command: Command) => Session;

/** @param sessions receives each session, so that its output can be flushed and its repositories closed at the end */
export function createStart(host: Host, ends: AsyncDisposableStack): Start {
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
