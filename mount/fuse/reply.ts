import { ATTR, ATTR_OUT, DIRENT, ENTRY_OUT, INIT_OUT, NOTIFY, OPEN_OUT, OUT_HEADER, STATFS_OUT } from './protocol.ts';

/** What the kernel is told of a node. Times are seconds since 1970. */
export interface Attributes {
  readonly ino: bigint;
  readonly mode: number;
  readonly size: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly time: number;
}

export interface DirectoryEntry {
  readonly ino: bigint;
  readonly name: string;
  readonly type: number;
}

/** For what never changes: believed for a year, in seconds. */
export const FOREVER = 365 * 24 * 3600;

/** What `negotiate` settled, as INIT's answer carries it. */
export interface InitAnswer {
  readonly major: number;
  readonly minor: number;
  readonly maxReadahead: number;
  readonly features: bigint;
  readonly maxWrite: number;
  readonly maxBackground: number;
  /** Longest READ, in pages of 4096 bytes; counts with FEATURE.maxPages. */
  readonly maxPages: number;
  /** How deep a filesystem that files are passed through to may be stacked itself, plus 1; counts with FEATURE.passthrough. */
  readonly maxStackDepth: number;
}

/** An answer's header with room for `size` bytes after it. */
function answer(unique: bigint, size: number): Buffer {
  const buffer = Buffer.alloc(OUT_HEADER.size + size);
  buffer.writeUInt32LE(buffer.length, OUT_HEADER.length);
  buffer.writeBigUInt64LE(unique, OUT_HEADER.unique);
  return buffer;
}

/** Failed with `errno`, positive, as in `os.constants.errno`. */
export function errorReply(unique: bigint, errno: number): Buffer {
  const buffer = answer(unique, 0);
  buffer.writeInt32LE(-errno, OUT_HEADER.error);
  return buffer;
}

/** Done, with nothing to say. */
export function emptyReply(unique: bigint): Buffer {
  return answer(unique, 0);
}

/** The header alone of an answer with `size` bytes, which must be written in one call with it. */
export function dataHeader(unique: bigint, size: number): Buffer {
  const buffer = Buffer.alloc(OUT_HEADER.size);
  writeDataHeader(buffer, unique, size);
  return buffer;
}

/** The same, in front of bytes that are in `at` already. */
export function writeDataHeader(at: Buffer, unique: bigint, size: number): void {
  at.writeUInt32LE(OUT_HEADER.size + size, OUT_HEADER.length);
  at.writeInt32LE(0, OUT_HEADER.error);
  at.writeBigUInt64LE(unique, OUT_HEADER.unique);
}

/** Any bytes, such as those of a READDIR. */
export function dataReply(unique: bigint, data: Uint8Array): Buffer {
  const buffer = answer(unique, data.length);
  buffer.set(data, OUT_HEADER.size);
  return buffer;
}

export function initReply(unique: bigint, init: InitAnswer): Buffer {
  const buffer = answer(unique, INIT_OUT.size);
  const body = buffer.subarray(OUT_HEADER.size);
  body.writeUInt32LE(init.major, INIT_OUT.major);
  body.writeUInt32LE(init.minor, INIT_OUT.minor);
  body.writeUInt32LE(init.maxReadahead, INIT_OUT.maxReadahead);
  body.writeUInt32LE(Number(init.features & 0xffffffffn), INIT_OUT.flags);
  body.writeUInt32LE(Number(init.features >> 32n), INIT_OUT.flags2);
  body.writeUInt16LE(init.maxBackground, INIT_OUT.maxBackground);
  body.writeUInt16LE(Math.floor((init.maxBackground * 3) / 4), INIT_OUT.congestionThreshold);
  body.writeUInt32LE(init.maxWrite, INIT_OUT.maxWrite);
  body.writeUInt32LE(1, INIT_OUT.timeGranularity);
  body.writeUInt16LE(init.maxPages, INIT_OUT.maxPages);
  body.writeUInt32LE(init.maxStackDepth, INIT_OUT.maxStackDepth);
  return buffer;
}

/** LOOKUP found `nodeid`. How long the kernel may believe name and attributes is in whole seconds; 0 is: ask every time. */
export function entryReply(
  unique: bigint,
  nodeid: bigint,
  attributes: Attributes,
  valid: { readonly entry: number; readonly attributes: number },
): Buffer {
  const buffer = answer(unique, ENTRY_OUT.size);
  const body = buffer.subarray(OUT_HEADER.size);
  body.writeBigUInt64LE(nodeid, ENTRY_OUT.nodeid);
  body.writeBigUInt64LE(BigInt(valid.entry), ENTRY_OUT.entryValid);
  body.writeBigUInt64LE(BigInt(valid.attributes), ENTRY_OUT.attrValid);
  writeAttributes(body.subarray(ENTRY_OUT.attr), attributes);
  return buffer;
}

export function attributesReply(unique: bigint, attributes: Attributes, valid: number): Buffer {
  const buffer = answer(unique, ATTR_OUT.size);
  const body = buffer.subarray(OUT_HEADER.size);
  body.writeBigUInt64LE(BigInt(valid), ATTR_OUT.attrValid);
  writeAttributes(body.subarray(ATTR_OUT.attr), attributes);
  return buffer;
}

function writeAttributes(at: Buffer, attributes: Attributes): void {
  at.writeBigUInt64LE(attributes.ino, ATTR.ino);
  at.writeBigUInt64LE(BigInt(attributes.size), ATTR.size_);
  at.writeBigUInt64LE(BigInt(Math.ceil(attributes.size / 512)), ATTR.blocks);
  for (const offset of [ATTR.atime, ATTR.mtime, ATTR.ctime]) at.writeBigUInt64LE(BigInt(attributes.time), offset);
  at.writeUInt32LE(attributes.mode, ATTR.mode);
  at.writeUInt32LE(attributes.nlink, ATTR.nlink);
  at.writeUInt32LE(attributes.uid, ATTR.uid);
  at.writeUInt32LE(attributes.gid, ATTR.gid);
  at.writeUInt32LE(4096, ATTR.blockSize);
}

/** `flags` are bits of OPEN_FLAG. */
export function openReply(unique: bigint, handle: bigint, flags = 0, backingId = 0): Buffer {
  const buffer = answer(unique, OPEN_OUT.size);
  const body = buffer.subarray(OUT_HEADER.size);
  body.writeBigUInt64LE(handle, OPEN_OUT.handle);
  body.writeUInt32LE(flags, OPEN_OUT.openFlags);
  body.writeInt32LE(backingId, OPEN_OUT.backingId);
  return buffer;
}

/** A filesystem that holds nothing and has no space. */
export function statfsReply(unique: bigint, nameLength: number): Buffer {
  const buffer = answer(unique, STATFS_OUT.size);
  const body = buffer.subarray(OUT_HEADER.size);
  body.writeUInt32LE(4096, STATFS_OUT.blockSize);
  body.writeUInt32LE(nameLength, STATFS_OUT.nameLength);
  body.writeUInt32LE(4096, STATFS_OUT.fragmentSize);
  return buffer;
}

/**
 * READDIR's answer: as many of `entries`, from number `offset` on, as fit in `room` bytes. An entry's own offset is the number of the
 * next one, so that the kernel goes on from there. Past the end it is empty, which ends the listing.
 */
export function directoryReply(
  unique: bigint,
  entries: readonly DirectoryEntry[],
  offset: bigint,
  room: number,
): Buffer {
  const start = offset >= BigInt(entries.length) ? entries.length : Number(offset);
  const records: Buffer[] = [];
  let used = 0;
  for (let index = start; index < entries.length; index += 1) {
    const record = directoryRecord(entries[index]!, index + 1);
    if (used + record.length > room) break;
    records.push(record);
    used += record.length;
  }
  return dataReply(unique, Buffer.concat(records, used));
}

function directoryRecord(entry: DirectoryEntry, next: number): Buffer {
  const name = Buffer.from(entry.name, 'latin1');
  const record = Buffer.alloc(Math.ceil((DIRENT.size + name.length) / 8) * 8);
  record.writeBigUInt64LE(entry.ino, DIRENT.ino);
  record.writeBigUInt64LE(BigInt(next), DIRENT.offset);
  record.writeUInt32LE(name.length, DIRENT.nameLength);
  record.writeUInt32LE(entry.type, DIRENT.type);
  record.set(name, DIRENT.size);
  return record;
}

/** Asks the kernel (Linux 6.9) to send again every request that was read and not answered. */
export function resendNotice(): Buffer {
  const buffer = Buffer.alloc(OUT_HEADER.size);
  buffer.writeUInt32LE(buffer.length, OUT_HEADER.length);
  buffer.writeInt32LE(NOTIFY.resend, OUT_HEADER.error);
  return buffer;
}
