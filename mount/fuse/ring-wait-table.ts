import { readSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';

/**
 * Since when requests of the ring wait, where it outlives the daemon: whoever is sent them again gives them only what is left of their
 * deadline. It lies in memory without a name that lives as long as somebody holds the descriptor, as the file nodes do (ring-nodes.ts).
 *
 * Records of 32 bytes, all little-endian; one that is empty has the key 0.
 *
 *     0: the request's number, without UNIQUE_RESENT    8: since when it waits    16: since when it has its last chance, or 0    24: check
 *
 * Times are CLOCK_MONOTONIC in ms, as doubles. The check is the CRC-32 of the bytes before it, begun with the connection's number: a torn
 * record, or one of another ring, is none. A record may be there whose request has ended: the kernel gives no number twice.
 *
 * The daemon writes the first half, the keeper that stands in the second, for both may do so at a time; each reads both.
 */
export interface WaitRecord {
  readonly key: bigint;
  readonly start: number;
  readonly chance: number;
}

export interface WaitTable {
  find(key: bigint): WaitRecord | undefined;
  /** Reads again what the other side writes. */
  refresh(): void;
  /** Writes one. False where there is no room. */
  save(record: WaitRecord): boolean;
  /** Removes those of this side that are over. */
  sweep(isOver: (record: WaitRecord) => boolean): void;
  /** Removes one that this side wrote. */
  remove(key: bigint): void;
  /** What this side wrote and did not remove. */
  readonly size: number;
}

export type WaitSide = 'daemon' | 'keeper';

const RECORD = { key: 0, start: 8, chance: 16, check: 24, size: 32 } as const;
/** Of each side. Up to 1,024 reads ahead wait at a time, and every thread with one open or read. */
const SLOTS = 4096;

/** On the memory `fd`, which stays the caller's: empty, or what was written there before. `connection` as the kernel numbers it. */
export function openWaitTable(fd: number, connection: number, side: WaitSide, slots = SLOTS): WaitTable {
  const first = side === 'daemon' ? 0 : slots;
  const own = new Map<bigint, { readonly slot: number; readonly record: WaitRecord }>();
  const others = new Map<bigint, WaitRecord>();
  const free: number[] = [];
  const bytes = Buffer.alloc(RECORD.size);

  /** Calls `take` for the records of a half, as far as anything was ever written there. */
  function read(from: number, take: (slot: number, record: WaitRecord | undefined) => void): void {
    const half = Buffer.allocUnsafe(slots * RECORD.size);
    const got = readSync(fd, half, 0, half.length, from * RECORD.size);
    for (let at = 0; at < got; at += RECORD.size)
      take(from + at / RECORD.size, decode(half.subarray(at, at + RECORD.size), connection));
  }

  function refresh(): void {
    others.clear();
    read(slots - first, (_, record) => record && others.set(record.key, record));
  }

  function write(slot: number, record: WaitRecord | undefined): void {
    encode(record, bytes, connection);
    // All in one page: a killed process wrote it, or did not.
    writeSync(fd, bytes, 0, bytes.length, slot * RECORD.size);
  }

  function remove(key: bigint): void {
    const before = own.get(key);
    if (!before) return;
    own.delete(key);
    write(before.slot, undefined);
    free.push(before.slot);
  }

  refresh();
  read(first, (slot, record) => record && own.set(record.key, { slot, record }));
  const taken = new Set([...own.values()].map(({ slot }) => slot));
  // The first slots first: memory is taken by the page.
  for (let slot = first + slots - 1; slot >= first; slot -= 1) if (!taken.has(slot)) free.push(slot);

  return {
    find(key) {
      const mine = own.get(key)?.record;
      const other = others.get(key);
      if (!mine || !other) return mine ?? other;
      return { key, start: Math.min(mine.start, other.start), chance: Math.max(mine.chance, other.chance) };
    },
    refresh,
    save(record) {
      const slot = own.get(record.key)?.slot ?? free.pop();
      if (slot === undefined) return false;
      write(slot, record);
      own.set(record.key, { slot, record });
      return true;
    },
    sweep(isOver) {
      for (const { record } of [...own.values()]) if (isOver(record)) remove(record.key);
    },
    remove,
    get size() {
      return own.size;
    },
  };
}

function encode(record: WaitRecord | undefined, at: Buffer, connection: number): void {
  at.fill(0);
  if (!record) return;
  at.writeBigUInt64LE(record.key, RECORD.key);
  at.writeDoubleLE(record.start, RECORD.start);
  at.writeDoubleLE(record.chance, RECORD.chance);
  at.writeUInt32LE(crc32(at.subarray(0, RECORD.check), connection), RECORD.check);
}

function decode(at: Buffer, connection: number): WaitRecord | undefined {
  const key = at.readBigUInt64LE(RECORD.key);
  if (key === 0n || crc32(at.subarray(0, RECORD.check), connection) !== at.readUInt32LE(RECORD.check)) return undefined;
  return { key, start: at.readDoubleLE(RECORD.start), chance: at.readDoubleLE(RECORD.chance) };
}
