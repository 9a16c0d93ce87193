import { hash } from 'node:crypto';

declare const digest: unique symbol;

/**
 * 32 bytes in 64 lowercase hexadecimal digits. Chunks, segments, packs and versions are named by their SHA-256; so are the
 * contents of one chunk. Other contents have another digest (docs/formats.md).
 */
export type Digest = string & { readonly [digest]: true };

/** Bytes in a digest's binary form. */
export const DIGEST_BYTES = 32;

export function sha256(data: Uint8Array | string): Digest {
  return hash('sha256', data, 'hex') as Digest;
}

export function isDigest(value: string): value is Digest {
  return /^[0-9a-f]{64}$/.test(value);
}

export function digestFromBytes(bytes: Uint8Array, offset = 0): Digest {
  return Buffer.from(bytes.buffer, bytes.byteOffset + offset, DIGEST_BYTES).toString('hex') as Digest;
}

export function digestToBytes(value: Digest): Buffer {
  return Buffer.from(value, 'hex');
}

/** The form that people read and type. */
export function shortId(value: Digest): string {
  return value.slice(0, 12);
}
