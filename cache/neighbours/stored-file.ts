import type { FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import type { ObjectInfo } from '../../dataset/bucket/bucket.ts';
import { blocksOf } from './blocks.ts';

/*
 * A whole object in the store of a node, to be given to neighbours:
 *
 *     the object's bytes
 *     u32      CRC-32 of each block of 64 KiB of them, the last one shorter
 *     JSON     {"etag":…,"modified":milliseconds,"size":bytes}
 *     u32      length of the JSON
 *     u32      CRC-32 of all from the first CRC-32 to here
 *     4        `LNBR`
 *
 * Written without fsync: what a crash of the machine leaves of it does not agree with itself, and is dropped. Numbers are little-endian.
 */

const MAGIC = 0x5242_4e4c; // 'LNBR'
const END_BYTES = 12;
const JSON_LIMIT = 4096;

/** What follows an object's bytes. */
export function encodeTrailer({ size, etag, modified }: ObjectInfo, checks: Uint32Array): Buffer {
  const json = Buffer.from(JSON.stringify({ etag, modified: modified.getTime(), size }), 'utf8');
  const out = Buffer.alloc(checks.length * 4 + json.length + END_BYTES);
  let at = 0;
  for (const check of checks) at = out.writeUInt32LE(check, at);
  at += json.copy(out, at);
  at = out.writeUInt32LE(json.length, at);
  at = out.writeUInt32LE(crc32(out.subarray(0, at)), at);
  out.writeUInt32LE(MAGIC, at);
  return out;
}

export interface Trailer {
  readonly info: ObjectInfo;
  readonly checks: Uint32Array;
}

/** Undefined where the file is not whole, or not what was written. */
export async function readTrailer(handle: FileHandle): Promise<Trailer | undefined> {
  const { size: fileSize } = await handle.stat();
  const tail = await readAt(handle, Math.max(0, fileSize - END_BYTES - JSON_LIMIT), fileSize);
  if (tail.length < END_BYTES || tail.readUInt32LE(tail.length - 4) !== MAGIC) return undefined;
  const jsonLength = tail.readUInt32LE(tail.length - END_BYTES);
  const jsonAt = tail.length - END_BYTES - jsonLength;
  if (jsonAt < 0) return undefined;
  const info = parseInfo(tail.toString('utf8', jsonAt, jsonAt + jsonLength));
  if (info === undefined) return undefined;
  const count = blocksOf(info.size);
  if (info.size + count * 4 + jsonLength + END_BYTES !== fileSize) return undefined;
  const whole = await readAt(handle, info.size, fileSize);
  if (crc32(whole.subarray(0, -8)) !== whole.readUInt32LE(whole.length - 8)) return undefined;
  const checks = new Uint32Array(count);
  for (let block = 0; block < count; block++) checks[block] = whole.readUInt32LE(block * 4);
  return { info, checks };
}

function parseInfo(text: string): ObjectInfo | undefined {
  try {
    const { etag, modified, size } = JSON.parse(text);
    if (typeof etag !== 'string' || !Number.isSafeInteger(modified) || !Number.isSafeInteger(size)) return undefined;
    return { etag, modified: new Date(modified), size };
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** What is there of the bytes from `from` up to `to`. */
export async function readAt(handle: FileHandle, from: number, to: number): Promise<Buffer> {
  const out = Buffer.allocUnsafeSlow(Math.max(0, to - from));
  let done = 0;
  while (done < out.length) {
    const { bytesRead } = await handle.read(out, done, out.length - done, from + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done === out.length ? out : out.subarray(0, done);
}
