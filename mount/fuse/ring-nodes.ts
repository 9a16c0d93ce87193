import { closeSync, fstatSync, readSync, writeSync } from 'node:fs';

/**
 * Which content id each file node of the ring stands for, and how it is open: what a daemon that takes the ring over must know of nodes
 * that another gave out, for the kernel tells it only their numbers. The table is memory without a name that lives as long as somebody
 * holds the descriptor: the daemon, and the keeper beside the ring's own.
 *
 * A node's number: bit 61 set, a running number in bits 24 to 60, the record's place in the table in bits 0 to 23.
 *
 * What is counted here is never less than what the kernel has: opens and lookups are written before they are answered, and what ends
 * them is written after. A daemon that is killed in between leaves a count that is too high. That costs memory, or a passthrough.
 */
export interface NodeRecord {
  readonly node: bigint;
  readonly id: string;
  readonly size: number;
  /** How often the kernel was given it, less what it gave back. */
  lookups: bigint;
  /** Opens through the kernel's page cache of this node, and opens that were passed through. The kernel refuses one beside the other. */
  cached: number;
  passed: number;
  /** What all passed opens are passed to, as the kernel numbers it, or 0. */
  backing: number;
}

export interface NodeTable {
  /** Of the memory itself, for who shall take it over. */
  readonly fd: number;
  byNode(node: bigint): NodeRecord | undefined;
  byId(id: string): NodeRecord | undefined;
  /** A new node, not yet looked up. An id has one node at a time. */
  add(id: string, size: number): NodeRecord;
  /** Writes a record that was changed. */
  save(record: NodeRecord): void;
  remove(record: NodeRecord): void;
  readonly size: number;
  close(): void;
}

const RECORD = { node: 0, size_: 8, lookups: 16, cached: 24, passed: 28, backing: 32, id: 40, size: 72 } as const;
const ID_BYTES = 32;

const FILE = 1n << 61n;
const SLOT_BITS = 24n;
const SLOT_MASK = (1n << SLOT_BITS) - 1n;
const SERIAL_MASK = (1n << 37n) - 1n;

/** Whether the number is one of a file, known or not. */
export function isFileNode(node: bigint): boolean {
  return node >> 61n === 1n;
}

/** On the memory `fd`, from now on the table's: empty, or what an earlier daemon left there. */
export function openNodeTable(fd: number): NodeTable {
  const slots: (NodeRecord | undefined)[] = [];
  const ids = new Map<string, NodeRecord>();
  const free: number[] = [];
  // Starting at the clock, no number comes again soon that an earlier daemon of this ring gave out.
  let serial = BigInt(Date.now()) & SERIAL_MASK;
  const bytes = Buffer.alloc(RECORD.size);

  const slotOf = (node: bigint) => Number(node & SLOT_MASK);

  const whole = Buffer.alloc(fstatSync(fd).size);
  readSync(fd, whole, 0, whole.length, 0);
  for (let slot = 0; (slot + 1) * RECORD.size <= whole.length; slot += 1) {
    const record = decode(whole.subarray(slot * RECORD.size, (slot + 1) * RECORD.size));
    slots.push(record);
    if (record) ids.set(record.id, record);
    else free.push(slot);
  }

  return {
    fd,
    byNode(node) {
      const record = slots[slotOf(node)];
      return record?.node === node ? record : undefined;
    },
    byId: (id) => ids.get(id),
    add(id, size) {
      const slot = free.pop() ?? slots.push(undefined) - 1;
      serial = (serial + 1n) & SERIAL_MASK;
      const node = FILE | (serial << SLOT_BITS) | BigInt(slot);
      const record = { node, id, size, lookups: 0n, cached: 0, passed: 0, backing: 0 };
      slots[slot] = record;
      ids.set(id, record);
      return record;
    },
    save(record) {
      encode(record, bytes);
      writeSync(fd, bytes, 0, bytes.length, slotOf(record.node) * RECORD.size);
    },
    remove(record) {
      const slot = slotOf(record.node);
      bytes.fill(0);
      writeSync(fd, bytes, 0, bytes.length, slot * RECORD.size);
      slots[slot] = undefined;
      ids.delete(record.id);
      free.push(slot);
    },
    get size() {
      return ids.size;
    },
    close: () => closeSync(fd),
  };
}

function encode(record: NodeRecord, at: Buffer): void {
  at.writeBigUInt64LE(record.node, RECORD.node);
  at.writeBigUInt64LE(BigInt(record.size), RECORD.size_);
  at.writeBigUInt64LE(record.lookups, RECORD.lookups);
  at.writeUInt32LE(record.cached, RECORD.cached);
  at.writeUInt32LE(record.passed, RECORD.passed);
  at.writeInt32LE(record.backing, RECORD.backing);
  at.write(record.id, RECORD.id, ID_BYTES, 'hex');
}

function decode(at: Buffer): NodeRecord | undefined {
  const node = at.readBigUInt64LE(RECORD.node);
  if (node === 0n) return undefined;
  return {
    node,
    id: at.toString('hex', RECORD.id, RECORD.id + ID_BYTES),
    size: Number(at.readBigUInt64LE(RECORD.size_)),
    lookups: at.readBigUInt64LE(RECORD.lookups),
    cached: at.readUInt32LE(RECORD.cached),
    passed: at.readUInt32LE(RECORD.passed),
    backing: at.readInt32LE(RECORD.backing),
  };
}
