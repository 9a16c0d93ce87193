import { randomUUID } from 'node:crypto';
import { fstatSync, ftruncateSync, readSync, writeSync } from 'node:fs';
import { seekData, seekHole } from '../system/calls.ts';
import { crc32c } from './erofs/crc32c.ts';

/**
 * What mkfs.xfs has made of an empty file, by its size, so that the next file of that size is made without a process: some 400 KB, written
 * with another UUID.
 */
export interface XfsTemplates {
  /** Makes an empty file a filesystem of this size. @returns false, and changes nothing, where none was learned */
  fill(fd: number, size: number): boolean;
  /** Keeps what a file holds that mkfs.xfs has just made, without holes in it that are allocated. What it does not understand it does not keep. */
  learn(fd: number, size: number): void;
}

interface Extent {
  readonly at: number;
  readonly bytes: Buffer;
}

interface Template {
  readonly extents: readonly Extent[];
  /** Where the superblock of each allocation group is, in bytes. */
  readonly superblocks: readonly number[];
  /** Where the log's first record is. */
  readonly log: number;
  readonly uuid: Buffer;
}

/** Templates of so many sizes are kept, the last ones. */
const SIZES = 8;
const LARGEST = 4 << 20;

/** Fields of the superblock (struct xfs_dsb; big-endian but for the checksum), which lies at the start of each allocation group. */
const SB = {
  blockSize: 4,
  uuid: 32,
  logStart: 48,
  agBlocks: 84,
  agCount: 88,
  version: 100,
  sectorSize: 102,
  agBlocksLog: 124,
  incompatible: 216,
  checksum: 224,
  metaUuid: 248,
} as const;
const MAGIC = 'XFSB';
/** `sb_uuid` is the filesystem's alone, what its blocks have is `sb_meta_uuid` (Linux 4.3): that is how xfs_admin changes one, too. */
const META_UUID = 4;
const LOG_MAGIC = 0xfeedbabe;
/** Of a log record's header (struct xlog_rec_header), whose checksum mkfs.xfs leaves zero. */
const LOG = { checksum: 32, uuid: 304 } as const;

export function createXfsTemplates(): XfsTemplates {
  const templates = new Map<number, Template>();
  return {
    fill(fd, size) {
      const template = templates.get(size);
      if (template === undefined) return false;
      ftruncateSync(fd, size);
      const uuid = Buffer.from(randomUUID().replaceAll('-', ''), 'hex');
      for (const { at, bytes } of withUuid(template, uuid)) {
        for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, at + done);
      }
      return true;
    },
    learn(fd, size) {
      const template = templateOf(fd, size);
      if (template === undefined) return;
      templates.delete(size);
      templates.set(size, template);
      if (templates.size > SIZES) templates.delete(templates.keys().next().value as number);
    },
  };
}

function templateOf(fd: number, size: number): Template | undefined {
  if (fstatSync(fd).size !== size) return undefined;
  const extents = readExtents(fd, size);
  const sb = extents?.[0]?.at === 0 ? extents[0].bytes : undefined;
  if (extents === undefined || sb === undefined || !isPlain(sb)) return undefined;
  const blockSize = sb.readUInt32BE(SB.blockSize);
  const agBlocks = sb.readUInt32BE(SB.agBlocks);
  const logStart = sb.readBigUInt64BE(SB.logStart);
  const shift = BigInt(sb.readUInt8(SB.agBlocksLog));
  const group = logStart >> shift;
  const log = (Number(group) * agBlocks + Number(logStart - (group << shift))) * blockSize;
  const superblocks = Array.from({ length: sb.readUInt32BE(SB.agCount) }, (_, ag) => ag * agBlocks * blockSize);
  const uuid = Buffer.from(sb.subarray(SB.uuid, SB.uuid + 16));
  const sectorSize = sb.readUInt16BE(SB.sectorSize);
  const header = find(extents, log, 512);
  const isKnown =
    header?.readUInt32BE(0) === LOG_MAGIC &&
    header.readUInt32LE(LOG.checksum) === 0 &&
    header.subarray(LOG.uuid, LOG.uuid + 16).equals(uuid) &&
    superblocks.every((at) => {
      const one = find(extents, at, sectorSize);
      return one !== undefined && isPlain(one) && one.subarray(SB.uuid, SB.uuid + 16).equals(uuid);
    });
  return isKnown ? { extents, superblocks, log, uuid } : undefined;
}

/** A superblock of version 5 with an internal log, and whose UUID nobody has changed. */
function isPlain(sb: Buffer): boolean {
  return (
    sb.toString('latin1', 0, 4) === MAGIC &&
    (sb.readUInt16BE(SB.version) & 0xf) === 5 &&
    sb.readBigUInt64BE(SB.logStart) > 0n &&
    (sb.readUInt32BE(SB.incompatible) & META_UUID) === 0 &&
    checksumOf(sb.subarray(0, sb.readUInt16BE(SB.sectorSize))) === sb.readUInt32LE(SB.checksum)
  );
}

function withUuid({ extents, superblocks, log, uuid }: Template, fresh: Buffer): Extent[] {
  const copies = extents.map(({ at, bytes }) => ({ at, bytes: Buffer.from(bytes) }));
  for (const at of superblocks) {
    const start = find(copies, at, 512) as Buffer;
    const sb = find(copies, at, start.readUInt16BE(SB.sectorSize)) as Buffer;
    fresh.copy(sb, SB.uuid);
    uuid.copy(sb, SB.metaUuid);
    sb.writeUInt32BE((sb.readUInt32BE(SB.incompatible) | META_UUID) >>> 0, SB.incompatible);
    sb.writeUInt32LE(checksumOf(sb), SB.checksum);
  }
  fresh.copy(find(copies, log, 512) as Buffer, LOG.uuid);
  return copies;
}

/** CRC-32C of the sector, its own field taken as zero. */
function checksumOf(sector: Buffer): number {
  const copy = Buffer.from(sector);
  copy.writeUInt32LE(0, SB.checksum);
  return ~crc32c(copy) >>> 0;
}

/** The bytes at this offset of the file, which are all in one extent; undefined where they are not. */
function find(extents: readonly Extent[], at: number, length: number): Buffer | undefined {
  const extent = extents.find((one) => one.at <= at && at + length <= one.at + one.bytes.length);
  return extent?.bytes.subarray(at - extent.at, at - extent.at + length);
}

function readExtents(fd: number, size: number): Extent[] | undefined {
  const extents: Extent[] = [];
  let sum = 0;
  for (let at = seekData(fd, 0); at !== undefined; ) {
    const end = seekHole(fd, at) ?? size;
    sum += end - at;
    if (sum > LARGEST) return undefined;
    const bytes = Buffer.alloc(end - at);
    for (let done = 0; done < bytes.length; ) {
      const read = readSync(fd, bytes, done, bytes.length - done, at + done);
      if (read === 0) return undefined;
      done += read;
    }
    extents.push({ at, bytes });
    at = seekData(fd, end);
  }
  return extents;
}
