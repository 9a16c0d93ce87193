import { InvalidError } from '../errors.ts';

/** Gives `key` back, or an InvalidError: keys are `/`-separated components of `A-Z a-z 0-9 _ - . %` and no component begins with `.`. */
export function validateKey(key: string): string {
  if (/^[\w%-][\w.%-]*(?:\/[\w%-][\w.%-]*)*$/.test(key) && key.length <= 1024) return key;
  throw new InvalidError(`'${key}' is no key of an object`, { facts: { key } });
}
