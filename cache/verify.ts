import { createHash } from 'node:crypto';
import { renameSync } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { type Digest, isDigest } from '../dataset/digest.ts';
import { isErrno } from '../dataset/errors.ts';
import type { Cache } from './cache.ts';
import type { CacheIndex } from './index.ts';
import { fans } from './layout.ts';
import { SegmentReader, type StagedSource } from './segment-reader.ts';

export interface VerifyProgress {
  readonly objects: number;
  readonly bytes: number;
}

export interface VerifyResult extends VerifyProgress {
  /** Put in quarantine: the cache does not have them any more, and fetches them again when they are wanted. */
  readonly damaged: readonly Digest[];
  /** Removed, since nothing that is known here tells what they should be. */
  readonly unknown: readonly Digest[];
}

export interface VerifyOptions {
  readonly cache: Cache;
  readonly index?: CacheIndex;
  /** Versions that tell the parts of objects of more than one chunk. */
  readonly sources: readonly StagedSource[];
  readonly onProgress?: (progress: VerifyProgress) => void;
  readonly signal?: AbortSignal;
}

/** How much is read and hashed at once, in bytes. */
const BLOCK = 1024 * 1024;

/** No object that is larger is one chunk, in bytes. */
const CHUNK_MAX = 16 * 1024 * 1024;

/** Reads every object of a cache and checks it against its name. */
export async function verifyCache({ cache, index, sources, onProgress, signal }: VerifyOptions): Promise<VerifyResult> {
  const segments = new SegmentReader();
  const damaged: Digest[] = [];
  const unknown: Digest[] = [];
  let objects = 0;
  let bytes = 0;
  for (const fan of fans()) {
    for (const id of await readdir(`${cache.layout.objects}/${fan}`)) {
      signal?.throwIfAborted();
      if (!isDigest(id)) continue;
      const checked = await checkObject(cache, segments, sources, id, signal);
      if (!checked) continue;
      objects += 1;
      bytes += checked.size;
      if (checked.verdict === 'right') {
        index?.markVerified(id);
      } else if (checked.verdict === 'damaged') {
        damaged.push(id);
        quarantine(cache, id);
      } else {
        unknown.push(id);
        cache.remove(id);
      }
      onProgress?.({ objects, bytes });
    }
  }
  return { objects, bytes, damaged, unknown };
}

/** Undefined for an object that went while it was looked at. */
async function checkObject(
  cache: Cache,
  segments: SegmentReader,
  sources: readonly StagedSource[],
  id: Digest,
  signal?: AbortSignal,
): Promise<{ size: number; verdict: 'right' | 'damaged' | 'unknown' } | undefined> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(cache.objectPath(id), 'r');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
  try {
    const { size } = await file.stat();
    const buffer = Buffer.allocUnsafe(BLOCK);
    const digestOf = async (from: number, length: number) => {
      const hash = createHash('sha256');
      for (let at = 0; at < length; ) {
        signal?.throwIfAborted();
        const { bytesRead } = await file.read(buffer, 0, Math.min(BLOCK, length - at), from + at);
        if (bytesRead === 0) return undefined;
        hash.update(buffer.subarray(0, bytesRead));
        at += bytesRead;
      }
      return hash.digest('hex') as Digest;
    };
    const isZero = async (from: number, length: number) => {
      for (let at = 0; at < length; ) {
        signal?.throwIfAborted();
        const { bytesRead } = await file.read(buffer, 0, Math.min(BLOCK, length - at), from + at);
        if (bytesRead === 0 || buffer.subarray(0, bytesRead).some((byte) => byte !== 0)) return false;
        at += bytesRead;
      }
      return true;
    };

    // Most objects are one chunk, and then their own digest tells; where it does not, the manifest is asked.
    if (size <= CHUNK_MAX && (await digestOf(0, size)) === id) return { size, verdict: 'right' };
    const place = await segments.locate(id, sources);
    if (!place) return { size, verdict: 'unknown' };
    if (place.content.kind !== 'chunks') return { size, verdict: 'damaged' };
    let at = 0;
    for (const { chunk, length } of place.content.parts) {
      const right = chunk === undefined ? await isZero(at, length) : (await digestOf(at, length)) === chunk;
      if (!right) return { size, verdict: 'damaged' };
      at += length;
    }
    return { size, verdict: at === size ? 'right' : 'damaged' };
  } catch (error) {
    // The disk cannot read it back.
    if (isErrno(error, 'EIO')) return { size: 0, verdict: 'damaged' };
    throw error;
  } finally {
    await file.close();
  }
}

function quarantine(cache: Cache, id: Digest): void {
  renameSync(cache.objectPath(id), `${cache.layout.quarantine}/${id}`);
  cache.remove(id);
}
