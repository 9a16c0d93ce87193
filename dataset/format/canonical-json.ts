import { CorruptError } from '../errors.ts';

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json | undefined };

/**
 * JSON in the one form that a value has here: keys sorted by their UTF-16 code units, no space, numbers as ECMAScript prints them,
 * members that are undefined left out, a line feed at the end.
 */
export function canonicalJson(value: Json): string {
  return `${render(value)}\n`;
}

/**
 * The object that `bytes` is the canonical JSON of; a CorruptError where they are anything else.
 * @param name the stored object as messages call it
 */
export function parseCanonicalJson(name: string, bytes: Buffer): { readonly [key: string]: Json | undefined } {
  let value: Json;
  try {
    value = JSON.parse(bytes.toString('utf8')) as Json;
  } catch (error) {
    throw new CorruptError(`${name} is damaged: it is no JSON`, { cause: error, facts: { object: name } });
  }
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  // The bytes, not the text: what is not UTF-8 decodes to text that looks canonical.
  if (!isObject || !Buffer.from(canonicalJson(value), 'utf8').equals(bytes))
    throw new CorruptError(`${name} is damaged: it is not JSON in its canonical form`, { facts: { object: name } });
  return value as { readonly [key: string]: Json | undefined };
}

function render(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(render).join(',')}]`;
  if (typeof value === 'object' && value !== null) {
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    members.sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${render(member as Json)}`).join(',')}}`;
  }
  return JSON.stringify(value);
}
