import type { LogFormat, LogLevel } from '../node/log.ts';
import { choice } from './node-settings.ts';

// Not imported from where they are defined: every command would load the library for logs.
const LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];
export const FORMATS: readonly LogFormat[] = ['text', 'json'];

/** How a daemon logs: LARDER_LOG is its level, LARDER_LOG_FORMAT its format. */
export interface LogSettings {
  readonly level: LogLevel;
  readonly format: LogFormat;
}

export interface LogSituation {
  /** What `--log-format` says, which wins. */
  readonly format?: LogFormat | undefined;
  /** Whether `--json` was given. */
  readonly json: boolean;
  /** Whether standard error is a terminal: a person reads it. */
  readonly terminal: boolean;
}

/** @throws InvalidError that names the variable and what it may be */
export function readLogSettings(
  env: Readonly<Record<string, string | undefined>>,
  { format, json, terminal }: LogSituation,
): LogSettings {
  return {
    level: choice(env, 'LARDER_LOG', LEVELS) ?? 'info',
    format: format ?? (json ? 'json' : choice(env, 'LARDER_LOG_FORMAT', FORMATS)) ?? (terminal ? 'text' : 'json'),
  };
}
