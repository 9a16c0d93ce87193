import { isAbsolute } from 'node:path';
import { InvalidError } from '../dataset/errors.ts';

/** The specification's limit for a name or an id, in bytes. */
const NAME_BYTES = 128;

/** A name or an id that must be there and not be too long; returns it. */
export function requiredName(value: string, field: string): string {
  const given = required(value, field);
  if (Buffer.byteLength(given) <= NAME_BYTES) return given;
  throw new InvalidError(`${field} has ${Buffer.byteLength(given)} bytes: give at most ${NAME_BYTES}`, {
    facts: { field },
  });
}

/** A path that must be there; returns it. */
export function requiredPath(value: string, field: string): string {
  return required(value, field);
}

/** A path that a mount can be made at; returns it. */
export function absolutePath(value: string, field: string): string {
  const path = required(value, field);
  if (isAbsolute(path) && !path.includes('\0')) return path;
  throw new InvalidError(`${field} is ${JSON.stringify(path)}: give an absolute path`, { facts: { field } });
}

function required(value: string, field: string): string {
  if (value !== '') return value;
  throw new InvalidError(`${field} is missing`, { facts: { field } });
}
