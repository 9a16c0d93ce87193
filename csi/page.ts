import { InvalidError } from '../dataset/errors.ts';

/**
 * A page as it is asked for, in the words of those who list: none of both for all there is.
 * Errors: InvalidError.
 */
export function pageOf(request: { readonly maxEntries: number; readonly startingToken: string }): {
  readonly after?: string;
  readonly limit?: number;
} {
  const { maxEntries, startingToken } = request;
  if (maxEntries < 0) throw new InvalidError(`max_entries is ${maxEntries}: give 0 for no limit, or more`);
  return {
    ...(startingToken !== '' && { after: startingToken }),
    ...(maxEntries !== 0 && { limit: maxEntries }),
  };
}
