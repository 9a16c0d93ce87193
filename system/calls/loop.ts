import { ioctl } from './libc.ts';

// linux/loop.h
const LOOP_CLR_FD = 0x4c01;
const LOOP_GET_STATUS64 = 0x4c05;
const LOOP_SET_CAPACITY = 0x4c07;
const LOOP_SET_DIRECT_IO = 0x4c08;
const LOOP_CONFIGURE = 0x4c0a;
const LOOP_CTL_GET_FREE = 0x4c82;

/** Flags of a loop device. */
export const LOOP = { readOnly: 1, autoclear: 4, directIo: 16 } as const;

/** LOOP_CTL_GET_FREE on an open /dev/loop-control: the number of a device that was free, made if need be. Nothing reserves it. */
export function loopGetFree(control: number): number {
  return ioctl('ioctl LOOP_CTL_GET_FREE', control, LOOP_CTL_GET_FREE);
}

export interface LoopConfiguration {
  /** The open backing file. */
  readonly fd: number;
  /** Bits of `LOOP`. */
  readonly flags: number;
  /** Logical sector size in bytes; 0 lets the kernel choose. */
  readonly blockSize?: number;
  /** At most 63 bytes, for people who look at `losetup`. */
  readonly name?: string;
}

/**
 * LOOP_CONFIGURE (Linux 5.8): backing file and settings in one step. EBUSY when another process was faster.
 * struct loop_config: fd u32, block_size u32, struct loop_info64 (232 bytes), reserved 64 bytes.
 * struct loop_info64: device, inode, rdevice, offset, sizelimit (u64 each), number, encrypt_type, encrypt_key_size, flags
 * (u32 each), file_name[64], crypt_name[64], encrypt_key[32], init[2] u64.
 */
export function loopConfigure(device: number, configuration: LoopConfiguration): void {
  const config = Buffer.alloc(8 + 232 + 64);
  config.writeUInt32LE(configuration.fd, 0);
  config.writeUInt32LE(configuration.blockSize ?? 0, 4);
  config.writeUInt32LE(configuration.flags, 8 + 52);
  Buffer.from(configuration.name ?? '').copy(config, 8 + 56, 0, 63);
  ioctl('ioctl LOOP_CONFIGURE', device, LOOP_CONFIGURE, config);
}

export interface LoopStatus {
  /** Inode of the backing file, and the number of the device that it lies on. */
  readonly inode: number;
  readonly device: number;
  /** Bits of `LOOP`. */
  readonly flags: number;
  readonly number: number;
}

/** LOOP_GET_STATUS64. ENXIO when the device has no backing file. */
export function loopStatus(device: number): LoopStatus {
  const info = Buffer.alloc(232);
  ioctl('ioctl LOOP_GET_STATUS64', device, LOOP_GET_STATUS64, info);
  return {
    device: Number(info.readBigUInt64LE(0)),
    inode: Number(info.readBigUInt64LE(8)),
    number: info.readUInt32LE(40),
    flags: info.readUInt32LE(52),
  };
}

/** LOOP_CLR_FD: gives the backing file back; where the device is still in use, at its last close. */
export function loopClear(device: number): void {
  ioctl('ioctl LOOP_CLR_FD', device, LOOP_CLR_FD);
}

/** LOOP_SET_CAPACITY: takes the backing file's present size. */
export function loopSetCapacity(device: number): void {
  ioctl('ioctl LOOP_SET_CAPACITY', device, LOOP_SET_CAPACITY);
}

/** LOOP_SET_DIRECT_IO: past the page cache of the backing file's filesystem. EINVAL where that cannot. */
export function loopSetDirectIo(device: number, on: boolean): void {
  ioctl('ioctl LOOP_SET_DIRECT_IO', device, LOOP_SET_DIRECT_IO, on ? 1 : 0);
}
