import { createCipheriv } from 'node:crypto';

/** Bytes that do not compress, the same for the same seed. */
export function randomBytes(seed: number, length: number): Buffer {
  const key = Buffer.alloc(32);
  key.writeUInt32LE(seed >>> 0);
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length));
}
