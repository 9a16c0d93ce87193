import { pino } from 'pino';
import { LarderError } from '../dataset/errors.ts';
import { createLimiter } from './log-limit.ts';
import { textLine } from './log-text.ts';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export const LOG_FORMATS = ['text', 'json'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** What a line tells besides its message. Names are stable: programs select by them. */
export interface LogFields {
  readonly volume?: string;
  readonly dataset?: string;
  readonly version?: string;
  /** The repository's location. */
  readonly repository?: string;
  readonly error?: unknown;
  /**
   * The kind of a failure that may come in thousands: of one kind, one line a minute is written, with the count of those left out
   * as `leftOut` and the latest of them as the example. Kinds are few: a word, and what it is about at most.
   */
  readonly repeats?: string;
  readonly [field: string]: unknown;
}

/** A daemon's log. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** Whether lines of this level are written: what they tell need not be gathered otherwise. */
  writes(level: LogLevel): boolean;
  /** The same log, with these fields in each line. */
  with(fields: LogFields): Logger;
}

export interface LoggerOptions {
  readonly write: (text: string) => unknown;
  readonly format: LogFormat;
  readonly level?: LogLevel;
  /** Which daemon: `node`, `keeper`, `controller`. */
  readonly component: string;
}

/** A log that must be disposed of at the end, so that what was left out is told. */
export function createLogger(options: LoggerOptions): Logger & Disposable {
  const { write, format, level = 'info', component } = options;
  const sink = pino(
    {
      level,
      messageKey: 'message',
      base: { component, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: describeError },
    },
    { write: format === 'json' ? write : (line: string) => write(textLine(JSON.parse(line))) },
  );
  const limiter = createLimiter();
  const logger = (context: LogFields): Logger => {
    const say =
      (at: LogLevel) =>
      (message: string, fields: LogFields = {}) => {
        if (!sink.isLevelEnabled(at)) return;
        const { repeats, ...facts } = { ...context, ...fields };
        if (repeats === undefined) sink[at](facts, message);
        else limiter.tell(repeats, (leftOut) => sink[at]({ ...facts, ...(leftOut > 0 && { leftOut }) }, message));
      };
    return {
      debug: say('debug'),
      info: say('info'),
      warn: say('warn'),
      error: say('error'),
      writes: (at) => sink.isLevelEnabled(at),
      with: (fields) => logger({ ...context, ...fields }),
    };
  };
  return { ...logger({}), [Symbol.dispose]: () => limiter.end() };
}

/** Where nobody reads: tests, and parts that are used without a daemon. */
export const silentLogger: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  writes: () => false,
  with: () => silentLogger,
};

/** What a line about a volume tells of it. */
export function aboutVolume(
  record: { readonly [K in 'volume' | 'dataset' | 'version' | 'repository']: string },
): LogFields {
  const { volume, dataset, version, repository } = record;
  return { volume, dataset, version, repository };
}

/** Errors of ours by their kind and facts, others with the stack that a report needs. */
export function describeError(error: unknown): unknown {
  if (error instanceof LarderError) {
    const { kind, message, facts } = error;
    return { kind, message, ...(Object.keys(facts).length > 0 && { facts }) };
  }
  if (!(error instanceof Error)) return { message: String(error) };
  const { message, stack } = error;
  const { code } = error as NodeJS.ErrnoException;
  return { message, ...(code === undefined ? { stack } : { code }) };
}
