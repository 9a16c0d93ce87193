import type { BigIntStats } from 'node:fs';
import { XFS_BULKSTAT, xfsBulkstat } from '../../system/calls.ts';

/**
 * What tells that an inode is as it was: change time, birth time and size, as six numbers of 32 bits. The kernel moves the change time with each
 * change of data, attributes or links; the birth time tells an inode from an earlier one of its number.
 */
export type Facts = Uint32Array<ArrayBuffer>;

export const FACTS = 6;

/** The longest time between two values of the kernel's clock for files: of a kernel with 100 ticks a second, in nanoseconds. */
const TICK = 10_000_000n;

const BILLION = 1_000_000_000n;

export function factsOf({ ctimeNs, birthtimeNs, size }: BigIntStats): Facts {
  const facts = new Uint32Array(FACTS);
  const low = (value: bigint) => Number(BigInt.asUintN(32, value));
  const nanosOf = (time: bigint) => ((time % BILLION) + BILLION) % BILLION;
  const time = (at: number, value: bigint) => {
    const nanos = nanosOf(value);
    facts[at] = low((value - nanos) / BILLION);
    facts[at + 1] = low(nanos);
  };
  time(0, ctimeNs);
  time(2, birthtimeNs);
  facts[4] = low(size);
  facts[5] = low(size >> 32n);
  return facts;
}

/** Facts that no inode ever has: it counts as changed. */
export function noFacts(): Facts {
  return new Uint32Array(FACTS).fill(0xffff_ffff);
}

/**
 * Whether an inode may be changed after `cut` (nanoseconds since 1970) without a change of its facts: two changes within a tick of the clock
 * have one time.
 */
export function isRacy({ ctimeNs }: BigIntStats, cut: bigint): boolean {
  return ctimeNs >= cut - 2n * TICK;
}

/** The facts of many inodes, in order of their numbers. */
export interface FactsTable {
  readonly inodes: Float64Array<ArrayBuffer>;
  /** `FACTS` numbers for each. */
  readonly facts: Uint32Array<ArrayBuffer>;
}

/** The table with other facts of some inodes, in order of their numbers; undefined takes an inode out. */
export function changeFacts(table: FactsTable, changes: readonly (readonly [number, Facts | undefined])[]): FactsTable {
  const inodes = new Float64Array(table.inodes.length + changes.length);
  const facts = new Uint32Array(inodes.length * FACTS);
  let count = 0;
  let from = 0;
  const keepUntil = (end: number) => {
    inodes.set(table.inodes.subarray(from, end), count);
    facts.set(table.facts.subarray(from * FACTS, end * FACTS), count * FACTS);
    count += end - from;
    from = end;
  };
  for (const [inode, changed] of changes) {
    keepUntil(placeOf(table.inodes, inode, from));
    if (table.inodes[from] === inode) from += 1;
    if (changed === undefined) continue;
    inodes[count] = inode;
    facts.set(changed, count * FACTS);
    count += 1;
  }
  keepUntil(table.inodes.length);
  return { inodes: inodes.slice(0, count), facts: facts.slice(0, count * FACTS) };
}

/** The first place at or after `from` whose inode is not less. */
function placeOf(inodes: Float64Array, inode: number, from: number): number {
  let low = from;
  let high = inodes.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (inodes[middle]! < inode) low = middle + 1;
    else high = middle;
  }
  return low;
}

export interface InodeChanges {
  /** Inodes of the table that have other facts now, or are gone. */
  readonly changed: ReadonlySet<number>;
  /** A file that is new or changed has several names. */
  readonly linked: boolean;
  /** How many inodes the filesystem has. */
  readonly inodes: number;
}

/** Inodes asked for at once. */
const ASKED = 2048;

const KIND = 0o170000;
const FILE = 0o100000;

/**
 * Compares a table with the inodes of the mounted XFS of `fd` as they are now. No inode is opened; the cost is about two microseconds for each that
 * the kernel has in memory.
 */
export async function findChanges(fd: number, table: FactsTable, signal?: AbortSignal): Promise<InodeChanges> {
  const { headBytes, recordBytes } = XFS_BULKSTAT;
  const buffer = Buffer.from(new ArrayBuffer(headBytes + ASKED * recordBytes));
  const words = new Uint32Array(buffer.buffer);
  const known = table.inodes;
  const changed = new Set<number>();
  let linked = false;
  let inodes = 0;
  let at = 0;
  for (let from = 0n; ; ) {
    const { count, next } = await xfsBulkstat(fd, from, buffer);
    signal?.throwIfAborted();
    if (count === 0) break;
    for (let i = 0; i < count; i += 1) {
      const start = (headBytes + i * recordBytes) >> 2;
      const inode = words[start]! + words[start + 1]! * 0x1_0000_0000;
      while (known[at]! < inode) changed.add(known[at++]!);
      const isKnown = known[at] === inode;
      if (isKnown) at += 1;
      if (isKnown && isSame(words, start, table.facts, (at - 1) * FACTS)) continue;
      if (isKnown) changed.add(inode);
      const mode = buffer.readUInt16LE((start << 2) + XFS_BULKSTAT.mode);
      if ((mode & KIND) === FILE && words[start + (XFS_BULKSTAT.links >> 2)]! > 1) linked = true;
    }
    inodes += count;
    from = next;
  }
  while (at < known.length) changed.add(known[at++]!);
  return { changed, linked, inodes };
}

function isSame(words: Uint32Array, start: number, facts: Uint32Array, at: number): boolean {
  return (
    words[start + (XFS_BULKSTAT.ctime >> 2)] === facts[at] &&
    words[start + (XFS_BULKSTAT.ctimeNanos >> 2)] === facts[at + 1] &&
    words[start + (XFS_BULKSTAT.born >> 2)] === facts[at + 2] &&
    words[start + (XFS_BULKSTAT.bornNanos >> 2)] === facts[at + 3] &&
    words[start + (XFS_BULKSTAT.size >> 2)] === facts[at + 4] &&
    words[start + (XFS_BULKSTAT.size >> 2) + 1] === facts[at + 5]
  );
}
