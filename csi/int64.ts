import { InvalidError } from '../dataset/errors.ts';

/**
 * A size in bytes as it arrives: decimal text of a signed 64-bit number.
 * Errors: InvalidError where it is negative or beyond what a number holds exactly (2^53 - 1).
 */
export function sizeOf(text: string, field: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new InvalidError(`${field} is ${text}: give a size from 0 to ${Number.MAX_SAFE_INTEGER} bytes`, {
    facts: { field },
  });
}
