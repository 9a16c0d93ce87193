import { readFileSync } from 'node:fs';
import { type ByteString, bytesOf, fromBuffer } from '../dataset/byte-string.ts';

/**
 * The bytes of an argument as the caller gave them. Node decodes its arguments as UTF-8 and loses what is none; the kernel still
 * has them. `text` is what Node made of it, whole or, for `--option=value`, the value.
 */
export function rawArgument(text: string, commandLine: () => Buffer = readCommandLine): ByteString {
  if (!text.includes('\ufffd')) return bytesOf(text);
  for (const argument of splitAtNul(commandLine())) {
    const decoded = argument.toString('utf8');
    if (decoded === text) return fromBuffer(argument);
    const equals = argument.indexOf('=');
    if (decoded.startsWith('--') && equals > 0 && argument.subarray(equals + 1).toString('utf8') === text) {
      return fromBuffer(argument.subarray(equals + 1));
    }
  }
  return bytesOf(text);
}

function readCommandLine(): Buffer {
  return readFileSync('/proc/self/cmdline');
}

function* splitAtNul(data: Buffer): Generator<Buffer> {
  let start = 0;
  for (let end = data.indexOf(0); end >= 0; end = data.indexOf(0, start)) {
    yield data.subarray(start, end);
    start = end + 1;
  }
}
