/**
 * The kinds of failure that callers can act on. Everything inside Larder throws one of these or lets a system error through;
 * the command line and the gRPC server each translate them in one place.
 */
export type ErrorKind = 'not-found' | 'invalid' | 'conflict' | 'unavailable' | 'corrupt';

/** Facts about a failure, for `--json` output and for gRPC details: short, stable field names. */
export type ErrorFacts = Readonly<Record<string, string | number | boolean | undefined>>;

export interface LarderErrorOptions {
  readonly cause?: unknown;
  readonly facts?: ErrorFacts;
}

export class LarderError extends Error {
  readonly kind: ErrorKind;
  readonly facts: ErrorFacts;

  constructor(kind: ErrorKind, message: string, options: LarderErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.kind = kind;
    this.facts = options.facts ?? {};
  }
}

/** The named thing does not exist. */
export class NotFoundError extends LarderError {
  constructor(message: string, options?: LarderErrorOptions) {
    super('not-found', message, options);
  }
}

/** The request can never succeed as it stands: a bad name, a bad parameter, a wrong combination. */
export class InvalidError extends LarderError {
  constructor(message: string, options?: LarderErrorOptions) {
    super('invalid', message, options);
  }
}

/** Somebody else changed the thing first, or it exists with other properties. */
export class ConflictError extends LarderError {
  constructor(message: string, options?: LarderErrorOptions) {
    super('conflict', message, options);
  }
}

/** It may succeed later: the network, a disk or a daemon is away, or a deadline passed. */
export class UnavailableError extends LarderError {
  constructor(message: string, options?: LarderErrorOptions) {
    super('unavailable', message, options);
  }
}

/** A disk of this node has no room for what was to be written; `facts.full` tells it also where the class was lost. */
export class DiskFullError extends UnavailableError {
  constructor(message: string, options: LarderErrorOptions = {}) {
    super(message, { ...options, facts: { ...options.facts, full: true } });
  }
}

/** Stored bytes are not what their name or their format says. */
export class CorruptError extends LarderError {
  constructor(message: string, options?: LarderErrorOptions) {
    super('corrupt', message, options);
  }
}

const classes: Record<ErrorKind, new (message: string, options?: LarderErrorOptions) => LarderError> = {
  'not-found': NotFoundError,
  invalid: InvalidError,
  conflict: ConflictError,
  unavailable: UnavailableError,
  corrupt: CorruptError,
};

/** An error of the class that this kind has: for one that came from another thread or process, where its class was lost. */
export function errorOfKind(kind: ErrorKind, message: string, options?: LarderErrorOptions): LarderError {
  if (kind === 'unavailable' && options?.facts?.full === true) return new DiskFullError(message, options);
  return new classes[kind](message, options);
}

/** Whether `error` is a system error with this code, such as `ENOENT`. */
export function isErrno(error: unknown, code: string): error is NodeJS.ErrnoException {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === code;
}

/** Whether the file system, or a quota of it, has no space for what was to be written. */
export function isDiskFull(error: unknown): boolean {
  return isErrno(error, 'ENOSPC') || isErrno(error, 'EDQUOT');
}
