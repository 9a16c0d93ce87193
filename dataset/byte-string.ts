declare const bytes: unique symbol;

/**
 * A string whose every code unit is one byte (0 to 255). File names on Linux are bytes, not text; this form keeps them exactly,
 * compares in byte order with `<`, and costs half of what a Buffer does. Never print one: `textOf` does that.
 */
export type ByteString = string & { readonly [bytes]: true };

/** The UTF-8 bytes of `text`, as a user typed it. */
export function bytesOf(text: string): ByteString {
  return Buffer.from(text, 'utf8').toString('latin1') as ByteString;
}

/** The bytes of `buffer`, kept as they are. */
export function fromBuffer(buffer: Uint8Array): ByteString {
  return Buffer.from(buffer.buffer, buffer.byteOffset, buffer.byteLength).toString('latin1') as ByteString;
}

/** A Buffer of the same bytes, as `node:fs` takes it for a path. */
export function bufferOf(value: ByteString): Buffer {
  return Buffer.from(value, 'latin1');
}

/** For people to read: decoded as UTF-8, with control characters and what does not decode written as `\xNN`. */
export function textOf(value: ByteString): string {
  const buffer = bufferOf(value);
  const text = buffer.toString('utf8');
  const exact = Buffer.from(text, 'utf8').equals(buffer);
  const shown = exact ? text : value.replace(/[\x80-\xff]/g, escapeByte);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is escaped here
  return shown.replace(/[\x00-\x1f\x7f]/g, escapeByte);
}

function escapeByte(character: string): string {
  return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
}
