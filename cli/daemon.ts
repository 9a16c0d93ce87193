import { Option } from 'commander';
import { InvalidError } from '../dataset/errors.ts';
import type { LogFormat } from '../node/log.ts';
import { FORMATS } from './log-settings.ts';
import type { Session } from './session.ts';

/** Options that every daemon takes. */
export interface DaemonOptions {
  readonly logFormat?: LogFormat;
}

export function logFormatOption(): Option {
  return new Option(
    '--log-format <format>',
    'text for people, json for programs; without it, text on a terminal (LARDER_LOG_FORMAT; LARDER_LOG is the level)',
  ).choices(FORMATS);
}

/** Resolves when somebody wants an end; for a daemon, that is no failure. */
export function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** CSI_ENDPOINT, or an InvalidError that asks for it. */
export function requireEndpoint({ environment }: Session): string {
  if (environment.csiEndpoint !== undefined) return environment.csiEndpoint;
  throw new InvalidError('set CSI_ENDPOINT to the socket to listen on, such as unix:///run/csi/csi.sock');
}
