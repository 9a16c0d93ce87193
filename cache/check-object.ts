import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import type { Digest } from '../dataset/digest.ts';
import { isErrno } from '../dataset/errors.ts';
import { fadvise, fgetxattr, fsetxattr } from '../system/calls.ts';
import type { Cache } from './cache.ts';
import { SegmentReader, type StagedSource } from './segment-reader.ts';

export interface CheckedObject {
  /** In bytes. */
  readonly size: number;
  /** `unknown`: its digest is not its name, and none of the sources tells its parts. */
  readonly verdict: 'right' | 'damaged' | 'unknown';
}

export interface CheckOptions {
  /** Called with what is about to be read, in bytes: whoever reads slowly waits there. */
  readonly onRead?: (bytes: number) => Promise<void> | undefined;
  readonly signal?: AbortSignal;
}

/** How much is read and hashed at once, in bytes. */
const BLOCK = 1024 * 1024;

/** No object that is larger is one chunk, in bytes. */
const CHUNK_MAX = 16 * 1024 * 1024;

/** Compares objects of a cache with their names. */
export class ObjectChecker {
  readonly #cache: Cache;
  readonly #segments = new SegmentReader();
  readonly #buffer = Buffer.allocUnsafe(BLOCK);

  /** It checks one object at a time. */
  constructor(cache: Cache) {
    this.#cache = cache;
  }

  /**
   * Undefined for an object that is not there, or went while it was looked at.
   * @param sources versions that tell the parts of objects of more than one chunk
   * Errors: those of the repository where an object's parts had to be asked for.
   */
  async check(
    id: Digest,
    sources: readonly StagedSource[],
    { onRead, signal }: CheckOptions = {},
  ): Promise<CheckedObject | undefined> {
    let file: Awaited<ReturnType<typeof open>>;
    try {
      file = await open(this.#cache.objectPath(id), 'r');
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return undefined;
      throw error;
    }
    try {
      // What only this reads is the first to leave the page cache: what is trained on stays.
      fadvise(file.fd, 0, 0, 'noReuse');
      const buffer = this.#buffer;
      const { size } = await file.stat();
      /** False where the file ends first, or `take` says so. */
      const readAll = async (from: number, length: number, take: (bytes: Buffer) => boolean) => {
        for (let at = 0; at < length; ) {
          signal?.throwIfAborted();
          const wanted = Math.min(BLOCK, length - at);
          await onRead?.(wanted);
          const { bytesRead } = await file.read(buffer, 0, wanted, from + at);
          if (bytesRead === 0 || !take(buffer.subarray(0, bytesRead))) return false;
          at += bytesRead;
        }
        return true;
      };
      const digestOf = async (from: number, length: number) => {
        const hash = createHash('sha256');
        const whole = await readAll(from, length, (bytes) => {
          hash.update(bytes);
          return true;
        });
        return whole ? (hash.digest('hex') as Digest) : undefined;
      };
      const isZero = (from: number, length: number) =>
        readAll(from, length, (bytes) => bytes.equals(ZEROS.subarray(0, bytes.length)));

      // Most objects are one chunk, and then their own digest tells; where it does not, the manifest is asked.
      if (size <= CHUNK_MAX && (await digestOf(0, size)) === id) return { size, verdict: 'right' };
      const place = await this.#segments.locate(id, sources);
      if (!place) return { size, verdict: 'unknown' };
      if (place.content.kind === 'source') {
        if (size !== place.size) return { size, verdict: 'damaged' };
        const digest = await digestOf(0, size);
        return { size, verdict: digest !== undefined && agreesWithLast(file.fd, digest) ? 'right' : 'damaged' };
      }
      if (place.content.kind !== 'chunks') return { size, verdict: 'damaged' };
      let at = 0;
      for (const { chunk, length } of place.content.parts) {
        const right = chunk === undefined ? await isZero(at, length) : (await digestOf(at, length)) === chunk;
        if (!right) return { size, verdict: 'damaged' };
        at += length;
      }
      return { size, verdict: at === size ? 'right' : 'damaged' };
    } catch (error) {
      // The disk cannot read it back, or fs-verity says that it is not what was written.
      if (isErrno(error, 'EIO')) return { size: 0, verdict: 'damaged' };
      throw error;
    } finally {
      await file.close();
    }
  }
}

/** A digest of the bytes, kept with an object whose name is none. */
const DIGEST_ATTRIBUTE = 'user.larder.sha256';

/**
 * Objects that lie in a bucket of their own are named by where they lie: nothing tells what their bytes are. The first check keeps their
 * digest, and later ones compare.
 */
function agreesWithLast(descriptor: number, digest: Digest): boolean {
  try {
    const last = fgetxattr(descriptor, DIGEST_ATTRIBUTE);
    if (last !== undefined) return last.toString('latin1') === digest;
    fsetxattr(descriptor, DIGEST_ATTRIBUTE, Buffer.from(digest, 'latin1'));
  } catch (error) {
    if (!NO_ATTRIBUTES.some((code) => isErrno(error, code))) throw error;
  }
  return true;
}

/** The file system has none, no room for them, or they are not ours to set. */
const NO_ATTRIBUTES = ['ENOTSUP', 'ENOSPC', 'EDQUOT', 'EACCES', 'EPERM'];

const ZEROS = Buffer.alloc(BLOCK);
