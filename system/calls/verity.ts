import { ioctl, ioctlAsync, ioctlNumber, type PathLike } from './libc.ts';

// linux/fsverity.h: struct fsverity_enable_arg, 128 bytes, and the head of struct fsverity_digest, 4 bytes.
const FS_IOC_ENABLE_VERITY = ioctlNumber('write', 'f'.charCodeAt(0), 133, 128);
const FS_IOC_MEASURE_VERITY = ioctlNumber('both', 'f'.charCodeAt(0), 134, 4);
const ALGORITHM_SHA256 = 1;
const BLOCK = 4096;
const SHA256_BYTES = 32;

/**
 * FS_IOC_ENABLE_VERITY: the file can never be written again, and the kernel checks each page that it reads of it from the disk against
 * a tree of digests: EIO where it differs. Reads the whole file once. The descriptor is for reading, and nobody may have the file
 * open for writing (ETXTBSY). ENOTSUP or ENOTTY where kernel or filesystem cannot; EEXIST where it was done before.
 * struct: version (1), hash algorithm, block size, salt size: u32 each; the rest is zeros.
 */
export async function enableVerity(fd: number, path?: PathLike): Promise<void> {
  const argument = Buffer.alloc(128);
  argument.writeUInt32LE(1, 0);
  argument.writeUInt32LE(ALGORITHM_SHA256, 4);
  argument.writeUInt32LE(BLOCK, 8);
  await ioctlAsync('ioctl FS_IOC_ENABLE_VERITY', fd, FS_IOC_ENABLE_VERITY, argument, path);
}

/** FS_IOC_MEASURE_VERITY: the digest that the kernel checks the file by. ENODATA where it has none. */
export function measureVerity(fd: number, path?: PathLike): Buffer {
  const answer = Buffer.alloc(4 + SHA256_BYTES);
  answer.writeUInt16LE(SHA256_BYTES, 2);
  ioctl('ioctl FS_IOC_MEASURE_VERITY', fd, FS_IOC_MEASURE_VERITY, answer, path);
  return answer.subarray(4, 4 + answer.readUInt16LE(2));
}
