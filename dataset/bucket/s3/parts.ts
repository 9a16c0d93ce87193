import { createHash, hash } from 'node:crypto';
import { Readable } from 'node:stream';
import { crc32 } from 'node:zlib';
import type { Body } from '../bucket.ts';

/** A request's body: buffers that go out one after the other, never joined. Its type is what the SDK takes for a stream. */
export class Parts extends Readable {
  readonly parts: readonly Uint8Array[];
  readonly length: number;

  constructor(parts: readonly Uint8Array[]) {
    super({ read() {} });
    this.parts = parts;
    this.length = lengthOf(parts);
  }
}

export function partsOf(body: Body): readonly Uint8Array[] {
  return body instanceof Uint8Array ? [body] : body;
}

export function lengthOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}

/** The bytes from `start` to `end` of all the parts together, without copying them. */
export function sliceOf(parts: readonly Uint8Array[], start: number, end: number): Uint8Array[] {
  const found: Uint8Array[] = [];
  let at = 0;
  for (const part of parts) {
    const from = Math.max(start - at, 0);
    const to = Math.min(end - at, part.length);
    if (from < to) found.push(from === 0 && to === part.length ? part : part.subarray(from, to));
    at += part.length;
    if (at >= end) break;
  }
  return found;
}

export interface Sums {
  /** Hex: what the request's signature covers, so that the store refuses other bytes. */
  readonly sha256: string;
  /** Base64, big-endian: kept by the store beside the object, and compared when it is read whole. */
  readonly crc32: string;
}

export function sumsOf(parts: readonly Uint8Array[]): Sums {
  return { sha256: sha256Of(parts), crc32: crc32Text(crc32Of(parts)) };
}

function sha256Of(parts: readonly Uint8Array[]): string {
  if (parts.length === 1) return hash('sha256', parts[0]!);
  const sum = createHash('sha256');
  for (const part of parts) sum.update(part);
  return sum.digest('hex');
}

export function crc32Of(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => crc32(part, sum), 0);
}

export function crc32Text(sum: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(sum);
  return bytes.toString('base64');
}
