import { BLOCK, readNumber } from './header.ts';
import { type PaxRecords, paxBytes, paxNumber } from './pax.ts';
import type { PullBytes } from './pull-bytes.ts';

/** A run of a sparse file that has bytes in the archive; what is between runs reads as zeros. */
export interface Run {
  readonly offset: number;
  readonly length: number;
}

export interface SparseMap {
  /** In order, none of length 0, none beside another. */
  readonly runs: readonly Run[];
  /** The file's size in bytes, with its holes. */
  readonly size: number;
  /** Bytes of the member's data that the map itself takes, before the runs. */
  readonly mapBytes: number;
}

/** The map of GNU's old sparse files (type S): in the header, and in blocks behind it. */
export async function readOldMap(header: Buffer, bytes: PullBytes): Promise<SparseMap | undefined> {
  const runs: Run[] = [];
  let sound = readPairs(header, 386, 4, runs);
  let more = header[482] === 1;
  while (more && sound) {
    const block = Buffer.from(await bytes.exactly(BLOCK));
    if (block.length < BLOCK) return undefined;
    sound = readPairs(block, 0, 21, runs);
    more = block[504] === 1;
  }
  const size = readNumber(header, 483, 12);
  return sound && size !== undefined ? checked(runs, size, 0) : undefined;
}

/** Whether pax records tell of a sparse file (GNU's formats 0.0, 0.1 and 1.0). */
export function isPaxSparse(records: PaxRecords): boolean {
  return ['GNU.sparse.major', 'GNU.sparse.map', 'GNU.sparse.numblocks', 'GNU.sparse.offset'].some((keyword) =>
    records.has(keyword),
  );
}

/** The map that pax records tell of. That of format 1.0 stands before the file's bytes and is read from there. */
export async function readPaxMap(records: PaxRecords, bytes: PullBytes): Promise<SparseMap | undefined> {
  const size = paxNumber(records, 'GNU.sparse.realsize') ?? paxNumber(records, 'GNU.sparse.size');
  if (size === undefined) return undefined;
  if (records.has('GNU.sparse.major')) {
    const format = `${paxBytes(records, 'GNU.sparse.major')}.${paxBytes(records, 'GNU.sparse.minor')}`;
    return format === '1.0' ? await readMapBefore(bytes, size) : undefined;
  }
  const numbers = records.has('GNU.sparse.map')
    ? (paxBytes(records, 'GNU.sparse.map') ?? '').split(',').filter((text) => text !== '')
    : pairsOf(records);
  return numbers && checked(runsOf(numbers), size, 0);
}

/** Format 0.0: offsets and lengths in records of their own, that come by turns. */
function pairsOf(records: PaxRecords): string[] | undefined {
  const offsets = records.get('GNU.sparse.offset') ?? [];
  const lengths = records.get('GNU.sparse.numbytes') ?? [];
  if (offsets.length !== lengths.length) return undefined;
  return offsets.flatMap((offset, i) => [offset.toString('latin1'), lengths[i]!.toString('latin1')]);
}

/** Format 1.0: how many runs, then offset and length of each, in decimal and with a line feed each, filled up to a block. */
async function readMapBefore(bytes: PullBytes, size: number): Promise<SparseMap | undefined> {
  let mapBytes = 0;
  let text = '';
  const numbers: string[] = [];
  for (let wanted = 1; numbers.length < wanted; ) {
    const block = await bytes.exactly(BLOCK);
    if (block.length < BLOCK) return undefined;
    mapBytes += BLOCK;
    text += block.toString('latin1');
    for (let end = text.indexOf('\n'); end >= 0 && numbers.length < wanted; end = text.indexOf('\n')) {
      numbers.push(text.slice(0, end));
      text = text.slice(end + 1);
      if (numbers.length === 1) wanted = 1 + 2 * Number(numbers[0]);
      if (!(wanted < 20_000_000)) return undefined;
    }
  }
  return checked(runsOf(numbers.slice(1)), size, mapBytes);
}

function runsOf(numbers: readonly string[]): Run[] {
  const runs: Run[] = [];
  for (let i = 0; i + 1 < numbers.length; i += 2)
    runs.push({ offset: decimal(numbers[i]!), length: decimal(numbers[i + 1]!) });
  return numbers.length % 2 === 0 ? runs : [{ offset: Number.NaN, length: 0 }];
}

function decimal(text: string): number {
  return /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
}

function readPairs(block: Buffer, start: number, count: number, runs: Run[]): boolean {
  for (let i = 0; i < count; i++) {
    const at = start + i * 24;
    // Pairs end with the first that is empty.
    if (block[at] === 0) return true;
    const offset = readNumber(block, at, 12);
    const length = readNumber(block, at + 12, 12);
    if (offset === undefined || length === undefined) return false;
    runs.push({ offset, length });
  }
  return true;
}

function checked(all: readonly Run[], size: number, mapBytes: number): SparseMap | undefined {
  if (!Number.isSafeInteger(size) || size < 0) return undefined;
  const runs: { offset: number; length: number }[] = [];
  let end = 0;
  for (const { offset, length } of all) {
    if (!(offset >= end) || !(length >= 0) || !(offset + length <= size)) return undefined;
    const last = runs.at(-1);
    if (length > 0 && last && last.offset + last.length === offset) last.length += length;
    else if (length > 0) runs.push({ offset, length });
    end = offset + length;
  }
  return { runs, size, mapBytes };
}
