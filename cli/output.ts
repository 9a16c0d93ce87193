import { styleText } from 'node:util';
import { type ByteString, bufferOf, textOf } from '../dataset/byte-string.ts';
import { createProgress, type Progress, type Terminal } from './progress.ts';

/** The part of a writable stream that is used. */
export interface Stream extends Terminal {
  write(chunk: string | Uint8Array): boolean;
  once(event: 'drain', listener: () => void): unknown;
}

export type Style = Parameters<typeof styleText>[0];

/** What a command says: results on stdout, everything else on stderr. */
export interface Output {
  /** Whether results are JSON documents, one a line. */
  readonly json: boolean;
  /** A line for people; nothing with `--json`. */
  line(text: string): void;
  /** A line for programs; nothing without `--json`. */
  document(value: object): void;
  /** Bytes as they are. */
  bytes(data: Uint8Array): Promise<void>;
  /** Waits until a slow reader has taken what was said. */
  drain(): Promise<void>;
  /** What the user should know of, but did not ask for: on stderr. */
  note(text: string): void;
  warn(text: string): void;
  /** Colours `text` where stdout is a terminal and NO_COLOR is not set. */
  style(style: Style, text: string): string;
  /** A bar on stderr until disposed. */
  progress(): Progress;
}

const BATCH = 32 * 1024;

export function createOutput({
  stdout,
  stderr,
  json,
  color,
}: {
  readonly stdout: Stream;
  readonly stderr: Stream;
  readonly json: boolean;
  readonly color: boolean;
}): Output {
  let pending = '';
  let full = false;
  let bar: Progress | undefined;
  const flush = () => {
    if (pending === '') return;
    const text = pending;
    pending = '';
    bar?.erase();
    if (!stdout.write(text)) full = true;
  };
  const drain = async () => {
    flush();
    if (!full) return;
    await new Promise<void>((resolve) => stdout.once('drain', resolve));
    full = false;
  };
  const say = (text: string) => {
    pending += `${text}\n`;
    // A person sees each line when it is known; a pipe or a file gets fewer, larger writes.
    if (stdout.isTTY || pending.length >= BATCH) flush();
  };
  const tell = (text: string) => {
    flush();
    bar?.erase();
    stderr.write(`${text}\n`);
  };
  return {
    json,
    line: (text) => {
      if (!json) say(text);
    },
    document: (value) => {
      if (json) say(JSON.stringify(value));
    },
    bytes: async (data) => {
      flush();
      bar?.erase();
      if (!stdout.write(data)) full = true;
      await drain();
    },
    drain,
    note: (text) => tell(json ? JSON.stringify({ note: text }) : text),
    warn: (text) => tell(json ? JSON.stringify({ warning: text }) : `larder: warning: ${text}`),
    style: (style, text) => (color ? styleText(style, text, { validateStream: false }) : text),
    progress: () => {
      bar = createProgress(stderr);
      return bar;
    },
  };
}

/** Whether a stream gets colours: a terminal, unless NO_COLOR is set to something or the terminal can do nothing. */
export function wantsColor(stream: Terminal, env: Readonly<Record<string, string | undefined>>): boolean {
  return stream.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb';
}

/**
 * A name that is bytes, as fields of a JSON document: the text, and where the bytes are not UTF-8, `<field>Base64` with the bytes
 * themselves (the text then shows them as `\xNN`).
 */
export function bytesFields<F extends string>(
  field: F,
  value: ByteString,
): { readonly [K in F]: string } & { readonly [K in `${F}Base64`]?: string } {
  const buffer = bufferOf(value);
  const text = buffer.toString('utf8');
  const exact = Buffer.from(text, 'utf8').equals(buffer);
  return (
    exact ? { [field]: text } : { [field]: textOf(value), [`${field}Base64`]: buffer.toString('base64') }
  ) as never;
}
