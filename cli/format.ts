import { parseBytes } from '../dataset/quantities.ts';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** A number of bytes in IEC units, three significant digits at least: `0 B`, `1.50 KiB`, `42.3 MiB`, `1023 GiB`. */
export function formatBytes(bytes: number): string {
  let value = Math.abs(bytes);
  let unit = 0;
  while (unit < UNITS.length - 1 && value >= 1023.5) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${bytes < 0 ? '-' : ''}${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** A whole number with its thousands apart: `3,786`. */
export function formatCount(count: number): string {
  return Math.round(count)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ',');
}

/** `1 file`, `3,786 files`; `plural` for the words that do more than take an s. */
export function formatNumberOf(count: number, noun: string, plural = `${noun}s`): string {
  return `${formatCount(count)} ${count === 1 ? noun : plural}`;
}

/** A span of time in milliseconds: `27 ms`, `4.2 s`, `3 min 20 s`, `1 h 05 min`. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 59_950) return `${(milliseconds / 1000).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1000);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${pad(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${pad(minutes % 60)} min`;
}

/** A moment (ISO 8601 or a Date) in the machine's time zone, to the minute: `2026-11-25 16:05`. */
export function formatDate(moment: string | Date): string {
  const date = typeof moment === 'string' ? new Date(moment) : moment;
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}`;
}

/** The same with its seconds and its distance from UTC: `2026-11-25 16:05:34 +0100`. */
export function formatTimestamp(moment: string | Date): string {
  const date = typeof moment === 'string' ? new Date(moment) : moment;
  const offset = -date.getTimezoneOffset();
  const zone = `${offset < 0 ? '-' : '+'}${pad(Math.floor(Math.abs(offset) / 60))}${pad(Math.abs(offset) % 60)}`;
  return `${formatDate(date)}:${pad(date.getSeconds())} ${zone}`;
}

/** A file's time, nanoseconds and all, in UTC: `2026-11-25T16:05:34.123456789Z`. */
export function formatFileTime(seconds: number, nanos: number): string {
  const date = new Date(seconds * 1000);
  const whole = Number.isNaN(date.getTime()) ? undefined : date.toISOString().replace(/\.\d+Z$/, '');
  const fraction = nanos.toString().padStart(9, '0');
  return whole === undefined ? `@${seconds}.${fraction}` : `${whole}.${fraction}Z`;
}

const TYPE_LETTER = { file: '-', directory: 'd', symlink: 'l' } as const;

/** `ls -l`'s first column: `drwxr-xr-x`, with set-user-id, set-group-id and sticky as `ls` writes them. */
export function formatMode(type: keyof typeof TYPE_LETTER, mode: number): string {
  const triple = (bits: number, special: number, letter: string) => {
    const execute = (bits & 1) !== 0;
    const last = special === 0 ? (execute ? 'x' : '-') : execute ? letter : letter.toUpperCase();
    return `${bits & 4 ? 'r' : '-'}${bits & 2 ? 'w' : '-'}${last}`;
  };
  return (
    TYPE_LETTER[type] +
    triple((mode >> 6) & 7, mode & 0o4000, 's') +
    triple((mode >> 3) & 7, mode & 0o2000, 's') +
    triple(mode & 7, mode & 0o1000, 't')
  );
}

/** Permission bits as `chmod` takes them: `0644`. */
export function formatOctal(mode: number): string {
  return mode.toString(8).padStart(4, '0');
}

/** A part of a disk, or bytes of it, as people type it: `80%`, `500G`; undefined where it is neither. */
export function parseSpace(text: string): { readonly bytes: number } | { readonly percent: number } | undefined {
  const percent = /^(\d+(?:\.\d+)?)\s*%$/.exec(text.trim());
  if (percent) return Number(percent[1]) <= 100 ? { percent: Number(percent[1]) } : undefined;
  const bytes = parseBytes(text);
  return bytes === undefined ? undefined : { bytes };
}

function pad(value: number): string {
  return value.toString().padStart(2, '0');
}
