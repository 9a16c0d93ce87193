import { wrongAnswer } from './failure.ts';

/** The head of an answer of HTTP/1, as RFC 9112 has it. */
export interface AnswerHead {
  readonly status: number;
  /** By names in lower case. Of a name that comes more than once, the values are joined. */
  readonly headers: Readonly<Record<string, string>>;
  readonly framing: Framing;
  /** Whether the connection may serve another request after the body. */
  readonly keeps: boolean;
  /** For how long, in milliseconds, where the answer says it. */
  readonly keptFor?: number;
}

/** How the end of a body is told: by its length in bytes, by its chunks, or by the end of the connection. */
export type Framing = number | 'chunked' | 'close';

/** The longest head, in bytes. */
export const HEAD_LIMIT = 32 * 1024;
const FIELDS_LIMIT = 256;
const START = Buffer.from('HTTP/1.');
const END = Buffer.from('\r\n\r\n');
const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const TEXT = /^[\t\x20-\x7e\x80-\xff]*$/;

/** Takes an answer's head from bytes that come cut anywhere. What is no such head is refused with a `WrongAnswer`. */
export class HeadReader {
  #stored = Buffer.alloc(0);
  #length = 0;
  #head: AnswerHead | undefined;

  /** Once it is whole. */
  get head(): AnswerHead | undefined {
    return this.#head;
  }

  /** Whether any of it has come. */
  get begun(): boolean {
    return this.#length > 0;
  }

  /** @returns how many of the bytes belong to the head: what follows is the body's */
  take(bytes: Uint8Array): number {
    const before = this.#length;
    const length = Math.min(before + bytes.length, HEAD_LIMIT);
    this.#makeRoom(length);
    this.#stored.set(bytes.subarray(0, length - before), before);
    this.#length = length;
    const known = this.#stored.subarray(0, length);
    const start = Math.min(START.length, length);
    if (known.compare(START, 0, start, 0, start) !== 0) throw refusal('it does not begin as one');
    const end = known.indexOf(END, Math.max(0, before - END.length + 1));
    if (end === -1) {
      if (length === HEAD_LIMIT) throw refusal(`its head is longer than ${HEAD_LIMIT} bytes`);
      return length - before;
    }
    this.#head = parseHead(known.toString('latin1', 0, end));
    return end + END.length - before;
  }

  /** For the next answer. */
  clear(): void {
    this.#length = 0;
    this.#head = undefined;
  }

  #makeRoom(length: number): void {
    if (this.#stored.length >= length) return;
    const larger = Buffer.alloc(Math.min(HEAD_LIMIT, Math.max(2048, 2 * length)));
    this.#stored.copy(larger);
    this.#stored = larger;
  }
}

/** @param text without the empty line at its end */
export function parseHead(text: string): AnswerHead {
  const [first, ...lines] = text.split('\r\n') as [string, ...string[]];
  const [, minor, code] = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: |$)/.exec(first) ?? [];
  if (code === undefined || !TEXT.test(first)) throw refusal('its first line is none of HTTP/1');
  if (lines.length > FIELDS_LIMIT) throw refusal(`it has more than ${FIELDS_LIMIT} headers`);
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, Math.max(0, colon)).toLowerCase();
    const value = trimmed(line.slice(colon + 1));
    if (!NAME.test(name) || !TEXT.test(value)) throw refusal('a line of its head is no header');
    headers[name] = Object.hasOwn(headers, name) ? `${headers[name]}, ${value}` : value;
  }
  const status = Number(code);
  const connection = new Set((headers.connection ?? '').toLowerCase().split(/[\t ]*,[\t ]*/));
  const framing = framingOf(status, headers);
  const keeps = framing !== 'close' && !connection.has('close') && (minor === '1' || connection.has('keep-alive'));
  const [, seconds] = /(?:^|[, ;])timeout=(\d{1,6})(?:$|[, ;])/.exec(headers['keep-alive'] ?? '') ?? [];
  return { status, headers, framing, keeps, ...(seconds === undefined ? {} : { keptFor: Number(seconds) * 1000 }) };
}

function framingOf(status: number, headers: Readonly<Record<string, string>>): Framing {
  const { 'transfer-encoding': encoding, 'content-length': length } = headers;
  if (status < 200 || status === 204 || status === 304) return 0;
  if (encoding !== undefined) {
    // Both are how an answer is made to mean different things to two readers.
    if (length !== undefined) throw refusal('it tells the length of its body in two ways');
    if (encoding.toLowerCase() !== 'chunked') throw refusal(`its encoding is '${encoding}'`);
    return 'chunked';
  }
  if (length === undefined) return 'close';
  if (!/^\d{1,15}$/.test(length)) throw refusal(`its length is '${length}'`);
  return Number(length);
}

/** Without blanks and tabs around it. */
function trimmed(value: string): string {
  let start = 0;
  let end = value.length;
  while (start < end && isBlank(value, start)) start += 1;
  while (end > start && isBlank(value, end - 1)) end -= 1;
  return value.slice(start, end);
}

function isBlank(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  return code === 0x20 || code === 0x09;
}

function refusal(why: string): Error {
  return wrongAnswer(`no answer of HTTP: ${why}`);
}
