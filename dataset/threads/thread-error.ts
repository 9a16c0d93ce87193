import { type ErrorFacts, type ErrorKind, errorOfKind, LarderError } from '../errors.ts';

/** An error as it is sent from one thread to another: what a copy would lose is spelt out. */
export interface ThreadError {
  readonly kind: ErrorKind | undefined;
  readonly name: string;
  readonly message: string;
  readonly facts: ErrorFacts;
  readonly code: string | undefined;
  readonly errno: number | undefined;
  readonly syscall: string | undefined;
  readonly path: string | undefined;
  readonly stack: string | undefined;
  readonly cause: ThreadError | undefined;
}

export function toThreadError(error: unknown): ThreadError {
  const known = error instanceof Error ? error : new Error(String(error));
  const { code, errno, syscall, path } = known as NodeJS.ErrnoException;
  return {
    kind: known instanceof LarderError ? known.kind : undefined,
    name: known.name,
    message: known.message,
    facts: known instanceof LarderError ? known.facts : {},
    code,
    errno,
    syscall,
    path,
    stack: known.stack,
    cause: known.cause === undefined ? undefined : toThreadError(known.cause),
  };
}

/** The error again, of the same class and with the same facts. */
export function fromThreadError(sent: ThreadError): Error {
  const cause = sent.cause === undefined ? undefined : fromThreadError(sent.cause);
  if (sent.kind !== undefined) return errorOfKind(sent.kind, sent.message, { facts: sent.facts, cause });
  const error = new Error(sent.message, { cause }) as NodeJS.ErrnoException;
  error.name = sent.name;
  if (sent.stack !== undefined) error.stack = sent.stack;
  for (const key of ['code', 'errno', 'syscall', 'path'] as const)
    if (sent[key] !== undefined) Object.assign(error, { [key]: sent[key] });
  return error;
}
