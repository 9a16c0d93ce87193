import { InvalidError } from '../dataset/errors.ts';
import { parseBytes, parsePeriod } from './format.ts';

/** What the environment says of a node's daemon. What is not set is left out, and the daemon's own default holds. */
export interface NodeSettings {
  /** How long an open or a read waits for bytes before it ends with EIO, in milliseconds: LARDER_DEADLINE. */
  readonly deadline?: number;
  /** Files larger than this, in bytes, are read while they are fetched: LARDER_STREAM_OVER. */
  readonly streamOver?: number;
  /** What is kept in memory of files that the cache has no room for, in bytes: LARDER_STREAM_MEMORY. */
  readonly streamMemory?: number;
}

export type Variables = Readonly<Record<string, string | undefined>>;

/** @throws InvalidError that names the variable and what it may be */
export function readNodeSettings(env: Variables): NodeSettings {
  const deadline = period(env, 'LARDER_DEADLINE');
  const streamOver = bytes(env, 'LARDER_STREAM_OVER');
  const streamMemory = bytes(env, 'LARDER_STREAM_MEMORY');
  return {
    ...(deadline !== undefined && { deadline }),
    ...(streamOver !== undefined && { streamOver }),
    ...(streamMemory !== undefined && { streamMemory }),
  };
}

/** A length of time, in milliseconds. */
export function period(env: Variables, name: string): number | undefined {
  return read(env, name, parsePeriod, 'a number with a unit, such as 30s or 5m');
}

/** A number of bytes. */
export function bytes(env: Variables, name: string): number | undefined {
  return read(env, name, parseBytes, 'a number of bytes, such as 64M or 2G');
}

/** One of several words. */
export function choice<T extends string>(env: Variables, name: string, choices: readonly T[]): T | undefined {
  const parse = (text: string) => choices.find((one) => one === text);
  return read(env, name, parse, `one of ${choices.join(', ')}`);
}

/** A variable that is empty counts as not set, as everywhere. */
export function read<T>(
  env: Variables,
  name: string,
  parse: (text: string) => T | undefined,
  what: string,
): T | undefined {
  const text = env[name];
  if (text === undefined || text === '') return undefined;
  const value = parse(text);
  if (value === undefined) throw new InvalidError(`${name} must be ${what}, not '${text}'`, { facts: { name } });
  return value;
}
