import { type ByteString, fromBuffer } from '../../byte-string.ts';

/** Extended records of a header, by keyword; values are bytes. What comes twice is in the order in which it came. */
export type PaxRecords = ReadonlyMap<string, readonly Buffer[]>;

/**
 * Records of a pax header (POSIX.1-2017, "pax Extended Header"): each its length in decimal, a space, keyword=value, a line feed. Kept as
 * bytes: names and attributes need not be text.
 * @returns undefined where they are not well-formed
 */
export function readPax(bytes: Buffer): PaxRecords | undefined {
  const records = new Map<string, Buffer[]>();
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    if (space < 0) return undefined;
    const digits = bytes.toString('latin1', at, space);
    const length = Number(digits);
    const end = at + length;
    if (!/^\d{1,10}$/.test(digits) || end > bytes.length || end < space + 3 || bytes[end - 1] !== 0x0a)
      return undefined;
    const equals = bytes.indexOf(0x3d, space + 1);
    if (equals < 0 || equals >= end) return undefined;
    const keyword = bytes.toString('latin1', space + 1, equals);
    const value = Buffer.from(bytes.subarray(equals + 1, end - 1));
    // GNU's sparse maps come as pairs of records: all of each are needed. Of others, the last counts.
    const known = records.get(keyword);
    if (known) known.push(value);
    else records.set(keyword, [value]);
    at = end;
  }
  return records;
}

/** Records of a global header and then a member's own; an empty value takes a global one away. */
export function mergePax(global: PaxRecords, own: PaxRecords): PaxRecords {
  return new Map([...global, ...own]);
}

export function paxBytes(records: PaxRecords, keyword: string): ByteString | undefined {
  const value = records.get(keyword)?.at(-1);
  return value === undefined || value.length === 0 ? undefined : fromBuffer(value);
}

/** A whole number; undefined where there is none, NaN where it is not one. */
export function paxNumber(records: PaxRecords, keyword: string): number | undefined {
  const text = paxBytes(records, keyword);
  if (text === undefined) return undefined;
  return /^-?\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
}

/** Seconds and nanoseconds of a decimal number, rounded down; undefined where it is none. */
export function paxTime(text: string): { readonly seconds: number; readonly nanos: number } | undefined {
  const [, sign, whole, fraction = ''] = /^(-?)(\d{1,16})(?:\.(\d*))?$/.exec(text) ?? [];
  if (whole === undefined) return undefined;
  const seconds = Number(whole);
  const nanos = Number(fraction.slice(0, 9).padEnd(9, '0'));
  // Nanoseconds count forward, also before 1970. What is finer than they are is cut off.
  if (sign !== '-') return { seconds, nanos };
  return nanos === 0
    ? { seconds: seconds === 0 ? 0 : -seconds, nanos: 0 }
    : { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos };
}
