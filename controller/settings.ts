import { InvalidError } from '../dataset/errors.ts';
import { parseBytes, parsePeriod } from '../dataset/quantities.ts';
import type { VolumeSettings } from '../dataset/volume-terms.ts';
import { PREFETCH_CHOICES, parsePrefetch } from './prefetch.ts';

export type SettingKey = keyof VolumeSettings;

/** What holds where nobody says anything. */
export const defaultSettings: VolumeSettings = { retention: 'drop' };

const SECOND = 1000;
const DAY = 86_400 * SECOND;
/** Ids that a file may have: one less than 2^32 means none. */
export const ID_LIMIT = 0xffff_fffe;
/** Less would make a single chunk take minutes. */
const BANDWIDTH_MINIMUM = 64 * 1024;

/** What each setting may be, for messages. */
export const SETTING_CHOICES: Readonly<Record<SettingKey, string>> = {
  prefetch: PREFETCH_CHOICES,
  uid: `a number from 0 to ${ID_LIMIT}, or dataset for the owners that the dataset has`,
  gid: `a number from 0 to ${ID_LIMIT}, or dataset for the groups that the dataset has`,
  mode: 'an octal number from 0000 to 0777, such as 0750, or dataset for the permissions that the dataset has',
  deadline: "from 1s to 1d, such as 30s or 5m, or default for the node's own",
  autosave:
    "from 1s to 1d, such as 10s or 5m, off for not before the volume is unstaged, or default for the node's own",
  bandwidth: 'from 64K on, such as 50M, or off for no limit',
  retention: 'drop for nothing, or keep for a branch of the dataset, volumes/NAME',
  follow: 'true or false',
};

const readers: { readonly [K in SettingKey]: (text: string, name: string) => VolumeSettings[K] | undefined } = {
  prefetch: parsePrefetch,
  uid: parseId('uid'),
  gid: parseId('gid'),
  mode(text, name) {
    if (text === 'dataset') return undefined;
    if (/^0?[0-7]{3}$/.test(text)) return Number.parseInt(text, 8);
    throw refuse('mode', text, name);
  },
  deadline: (text, name) => (text === 'default' ? undefined : periodIn('deadline', text, name)),
  autosave: (text, name) => (text === 'default' ? undefined : text === 'off' ? 0 : periodIn('autosave', text, name)),
  bandwidth(text, name) {
    if (text === 'off') return undefined;
    const bytes = parseBytes(text);
    if (bytes !== undefined && bytes >= BANDWIDTH_MINIMUM) return bytes;
    throw refuse('bandwidth', text, name);
  },
  retention: (text, name) => parseWord(text, ['drop', 'keep'] as const, name, SETTING_CHOICES.retention),
  follow: (text, name) => parseWord(text, ['true', 'false'], name) === 'true' || undefined,
};

/**
 * A setting as text says it; undefined where that means what holds anyway.
 * Errors: InvalidError that names the parameter and its choices.
 */
export function parseSetting<K extends SettingKey>(key: K, text: string): VolumeSettings[K] | undefined {
  return readers[key](text, `parameter "${key}"`);
}

/**
 * One of several words.
 * Errors: InvalidError with `name` and the choices.
 */
export function parseWord<const T extends string>(
  text: string,
  words: readonly T[],
  name: string,
  choices = words.join(' or '),
): T {
  const found = words.find((word) => word === text);
  if (found === undefined) throw new InvalidError(`${name} must be ${choices}, not '${text}'`, { facts: { name } });
  return found;
}

function parseId(key: 'uid' | 'gid') {
  return (text: string, name: string): number | undefined => {
    if (text === 'dataset') return undefined;
    const id = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
    if (id <= ID_LIMIT) return id;
    throw refuse(key, text, name);
  };
}

function periodIn(key: 'deadline' | 'autosave', text: string, name: string): number {
  const milliseconds = parsePeriod(text);
  if (milliseconds !== undefined && milliseconds >= SECOND && milliseconds <= DAY) return milliseconds;
  throw refuse(key, text, name);
}

function refuse(key: SettingKey, text: string, name: string): InvalidError {
  return new InvalidError(`${name} must be ${SETTING_CHOICES[key]}, not '${text}'`, { facts: { parameter: key } });
}
