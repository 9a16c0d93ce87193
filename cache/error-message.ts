import {
  ConflictError,
  CorruptError,
  type ErrorFacts,
  type ErrorKind,
  InvalidError,
  LarderError,
  NotFoundError,
  UnavailableError,
} from '../dataset/errors.ts';

/** An error as it goes from one thread to another, where a class would be lost. */
export interface ErrorMessage {
  readonly message: string;
  readonly kind?: ErrorKind;
  readonly facts?: ErrorFacts;
  /** Of a system error. */
  readonly code?: string;
  readonly name?: string;
  readonly stack?: string;
}

export function errorMessage(error: unknown): ErrorMessage {
  if (error instanceof LarderError) return { message: error.message, kind: error.kind, facts: { ...error.facts } };
  if (!(error instanceof Error)) return { message: String(error) };
  return { message: error.message, code: (error as NodeJS.ErrnoException).code, name: error.name, stack: error.stack };
}

const kinds: Record<ErrorKind, new (message: string, options?: { facts?: ErrorFacts }) => LarderError> = {
  'not-found': NotFoundError,
  invalid: InvalidError,
  conflict: ConflictError,
  unavailable: UnavailableError,
  corrupt: CorruptError,
};

export function errorOf({ message, kind, facts, code, name, stack }: ErrorMessage): Error {
  if (kind) return new kinds[kind](message, { facts });
  const error = new Error(message);
  if (name) error.name = name;
  if (stack) error.stack = stack;
  return code === undefined ? error : Object.assign(error, { code });
}
