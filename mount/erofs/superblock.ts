import { InvalidError } from '../../dataset/errors.ts';
import { crc32c } from './crc32c.ts';
import {
  BLOCK,
  BLOCK_BITS,
  COMPATIBLE_CHECKSUM,
  COMPATIBLE_MTIME,
  COMPATIBLE_XATTR_FILTER,
  INCOMPATIBLE_CHUNKED_FILE,
  INCOMPATIBLE_XATTR_PREFIXES,
  MAGIC,
  SB,
  SUPERBLOCK_AT,
  UUID_BYTES,
  VOLUME_NAME_BYTES,
} from './layout.ts';

export interface Superblock {
  readonly rootNid: number;
  readonly inodes: number;
  /** Compact inodes have this mtime. */
  readonly buildSeconds: number;
  readonly buildNanos: number;
  readonly blocks: number;
  readonly uuid: Uint8Array;
  readonly volumeName: string;
  /** Where the long xattr name prefixes begin, in bytes; undefined when there are none. */
  readonly prefixesAt: number | undefined;
  readonly prefixCount: number;
}

/** Fills in the superblock of `block`, the image's first block, and its checksum over all that follows the boot area. */
export function writeSuperblock(block: Buffer, fields: Superblock): void {
  const at = SUPERBLOCK_AT;
  block.writeUInt32LE(MAGIC, at + SB.magic);
  block.writeUInt32LE(0, at + SB.checksum);
  block.writeUInt32LE(COMPATIBLE_CHECKSUM | COMPATIBLE_MTIME | COMPATIBLE_XATTR_FILTER, at + SB.compatible);
  block.writeUInt8(BLOCK_BITS, at + SB.blockBits);
  block.writeUInt16LE(fields.rootNid, at + SB.rootNid);
  block.writeBigUInt64LE(BigInt(fields.inodes), at + SB.inodes);
  block.writeBigInt64LE(BigInt(fields.buildSeconds), at + SB.buildTime);
  block.writeUInt32LE(fields.buildNanos, at + SB.buildNanos);
  block.writeUInt32LE(fields.blocks, at + SB.blocks);
  block.set(fields.uuid, at + SB.uuid);
  block.write(fields.volumeName, at + SB.volumeName, 'latin1');
  const prefixed = fields.prefixesAt !== undefined;
  block.writeUInt32LE(INCOMPATIBLE_CHUNKED_FILE | (prefixed ? INCOMPATIBLE_XATTR_PREFIXES : 0), at + SB.incompatible);
  block.writeUInt8(fields.prefixCount, at + SB.prefixCount);
  block.writeUInt32LE((fields.prefixesAt ?? 0) / 4, at + SB.prefixStart);
  block.writeUInt32LE(crc32c(block.subarray(at, BLOCK)), at + SB.checksum);
}

export function checkUuid(uuid: Uint8Array): Uint8Array {
  if (uuid.length === UUID_BYTES) return uuid;
  throw new InvalidError(`the image's UUID has ${uuid.length} bytes; give ${UUID_BYTES}`);
}

export function checkVolumeName(name: string): string {
  if (/^[\x21-\x7e]*$/.test(name) && name.length <= VOLUME_NAME_BYTES) return name;
  throw new InvalidError(
    `the image's volume name ${JSON.stringify(name)} is not up to ${VOLUME_NAME_BYTES} printable ASCII characters`,
  );
}
