/** A log's line as it is for programs. */
export interface LogRecord {
  readonly level: string;
  readonly time: string;
  readonly message: string;
  readonly component: string;
  readonly pid: number;
  readonly error?: { readonly message?: string; readonly stack?: string };
  readonly [field: string]: unknown;
}

/** Ids, of which a person needs the beginning. */
const LONG_ID = /^[0-9a-f]{64}$/;

/** `2026-11-25T22:30:12.345Z warn  object 12ab… did not come: … volume=pvc-7 dataset=emoji version=0011aabbccdd`, and the newline. */
export function textLine({
  level,
  time,
  message,
  component: _component,
  pid: _pid,
  error,
  ...fields
}: LogRecord): string {
  const parts = [time, level.padEnd(5), oneLine(message)];
  if (error?.message !== undefined && !message.includes(error.message)) parts.push(`(${oneLine(error.message)})`);
  for (const [name, value] of Object.entries(fields)) parts.push(`${name}=${textOfValue(value)}`);
  const stack = error?.stack === undefined ? '' : `\n${error.stack.replace(/^/gm, '    ')}`;
  return `${parts.join(' ')}${stack}\n`;
}

/** Names that others chose must not forge a line. */
function oneLine(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => JSON.stringify(character).slice(1, -1));
}

function textOfValue(value: unknown): string {
  if (typeof value !== 'string') return JSON.stringify(value);
  if (LONG_ID.test(value)) return value.slice(0, 12);
  return /[\s"=]/.test(value) || value === '' ? JSON.stringify(value) : value;
}
