import type { SpaceLimits } from '../cache/space-limits.ts';
import { VERITY_CHOICES, type VerityChoice } from '../cache/verity-choice.ts';
import { InvalidError } from '../dataset/errors.ts';
import { parseBytes, parsePeriod } from '../dataset/quantities.ts';
import { parseSpace } from './format.ts';

/** What the environment says of a node's daemon. What is not set is left out, and the daemon's own default holds. */
export interface NodeSettings {
  /** How long an open or a read waits for bytes before it ends with EIO, in milliseconds: LARDER_DEADLINE. */
  readonly deadline?: number;
  /** What the cache may take, and what it leaves free of its disk: LARDER_CACHE_LIMIT, LARDER_CACHE_MIN_FREE. */
  readonly limits?: SpaceLimits;
  /** Files larger than this, in bytes, are read while they are fetched: LARDER_STREAM_OVER. */
  readonly streamOver?: number;
  /** What is kept in memory of files that the cache has no room for, in bytes: LARDER_STREAM_MEMORY. */
  readonly streamMemory?: number;
  /** How fast cached objects are checked in the background, in bytes a second; 0: not at all: LARDER_SCRUB_RATE. */
  readonly scrubRate?: number;
  /** Whether the kernel checks cached objects as it reads them: LARDER_VERITY. */
  readonly verity?: VerityChoice;
  /** Whether opens of files that are streamed may be passed through to them once they are whole: LARDER_PASSTHROUGH. */
  readonly passthrough?: boolean;
  /** Whether what seems to come next is fetched before it is opened: LARDER_READ_AHEAD. */
  readonly readAhead?: boolean;
  /** How often workspaces are saved that say nothing themselves, in milliseconds; 0: when they are unstaged: LARDER_AUTOSAVE. */
  readonly autosave?: number;
  /** How often the node gives a sign of life, in milliseconds: LARDER_HEARTBEAT. */
  readonly heartbeat?: number;
  /** After how long without one others are given up, in milliseconds: LARDER_GIVE_UP. */
  readonly giveUp?: number;
}

export type Variables = Readonly<Record<string, string | undefined>>;

/** @throws InvalidError that names the variable and what it may be */
export function readNodeSettings(env: Variables): NodeSettings {
  const deadline = period(env, 'LARDER_DEADLINE');
  const streamOver = bytes(env, 'LARDER_STREAM_OVER');
  const streamMemory = bytes(env, 'LARDER_STREAM_MEMORY');
  const scrubRate = read(env, 'LARDER_SCRUB_RATE', parseRate, "a number of bytes a second, such as 2M, or 'off'");
  const limit = space(env, 'LARDER_CACHE_LIMIT');
  const minFree = space(env, 'LARDER_CACHE_MIN_FREE');
  const verity = choice(env, 'LARDER_VERITY', VERITY_CHOICES);
  const passthrough = choice(env, 'LARDER_PASSTHROUGH', ['auto', 'off']);
  const readAhead = choice(env, 'LARDER_READ_AHEAD', ['auto', 'off']);
  const autosave = read(env, 'LARDER_AUTOSAVE', parseInterval, "a number with a unit, such as 10s or 5m, or 'off'");
  const heartbeat = period(env, 'LARDER_HEARTBEAT');
  const giveUp = period(env, 'LARDER_GIVE_UP');
  return {
    ...((limit ?? minFree) && { limits: { ...(limit && { limit }), ...(minFree && { minFree }) } }),
    ...(scrubRate !== undefined && { scrubRate }),
    ...(verity !== undefined && { verity }),
    ...(passthrough !== undefined && { passthrough: passthrough === 'auto' }),
    ...(readAhead !== undefined && { readAhead: readAhead === 'auto' }),
    ...(autosave !== undefined && { autosave }),
    ...(heartbeat !== undefined && { heartbeat }),
    ...(giveUp !== undefined && { giveUp }),
    ...(deadline !== undefined && { deadline }),
    ...(streamOver !== undefined && { streamOver }),
    ...(streamMemory !== undefined && { streamMemory }),
  };
}

function parseRate(text: string): number | undefined {
  return text === 'off' ? 0 : parseBytes(text);
}

function parseInterval(text: string): number | undefined {
  return text === 'off' ? 0 : parsePeriod(text);
}

/** A length of time, in milliseconds. */
export function period(env: Variables, name: string): number | undefined {
  return read(env, name, parsePeriod, 'a number with a unit, such as 30s or 5m');
}

/** A number of bytes. */
export function bytes(env: Variables, name: string): number | undefined {
  return read(env, name, parseBytes, 'a number of bytes, such as 64M or 2G');
}

/** A part of a disk. */
function space(env: Variables, name: string) {
  return read(env, name, parseSpace, 'a number of bytes, such as 500G, or a part of the disk, such as 80%');
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
