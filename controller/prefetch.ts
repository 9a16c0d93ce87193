import { InvalidError } from '../dataset/errors.ts';

/** What a node may be told to fetch when a volume is staged, for messages. */
export const PREFETCH_CHOICES = "all, none, or a glob over paths, such as 'train/**'";

/** Without one of these, a word is a slip rather than a glob. */
const GLOB = /[*?[{/.]/;

/**
 * What to fetch when a volume is staged: `all`, or a glob over paths; undefined for `none`.
 * @param name of the parameter or option, for the message
 */
export function parsePrefetch(text: string, name: string): string | undefined {
  if (text === 'none') return undefined;
  if (text === 'all' || GLOB.test(text)) return text;
  throw new InvalidError(`${name} must be ${PREFETCH_CHOICES}, not '${text}'`, { facts: { name } });
}
