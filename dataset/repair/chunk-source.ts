import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readObject } from '../bucket/read-object.ts';
import { type ChunkIndex, openChunkIndex } from '../chunk-index.ts';
import type { Digest } from '../digest.ts';
import { CorruptError, NotFoundError } from '../errors.ts';
import type { ChunkRef } from '../format/chunk-list.ts';
import { type ChunkLocation, readLocations, type SegmentLocations } from '../location.ts';
import { readChunk } from '../pack.ts';
import type { Repository } from '../repository.ts';

/** A chunk that is to be got from elsewhere. */
export interface WantedChunk {
  readonly id: Digest;
  /** In bytes, uncompressed. */
  readonly length: number;
  /** A leaf that names it, with that leaf's chunks. */
  readonly leaf: { readonly digest: Digest; readonly chunks: readonly ChunkRef[] };
  /** Contents that have it, and where in them. */
  readonly places: readonly { readonly content: Digest; readonly offset: number }[];
}

/** Who may have what a repository has lost. What it gives is not trusted: everything is verified before it is stored. */
export interface ChunkSource {
  /** For messages. */
  readonly name: string;
  /** Bytes that are meant to be the chunk's; undefined where there are none. */
  chunk(wanted: WantedChunk, signal?: AbortSignal): Promise<Buffer | undefined>;
  /** The object of another repository with this key, if the source is one and has it. */
  object?(key: string, limit: number, signal?: AbortSignal): Promise<Buffer | undefined>;
}

/** Locations kept: chunks of one leaf are asked for together. */
const KEPT = 16;

/** Another repository: one that has the same versions, or the same chunks in others. Close it when done; the repository stays open. */
export function repositorySource(repository: Repository): ChunkSource & Disposable {
  /**
   * Made, and filled, when a leaf is wanted that the repository does not have. Its own, since a copy that was made with other tools has the
   * id of the repository that is repaired, and would share the index with it.
   */
  let index: ChunkIndex | undefined;
  let scratch: string | undefined;
  let refreshed: Promise<unknown> | undefined;
  const indexed = async (id: Digest) => {
    scratch ??= mkdtempSync(join(tmpdir(), 'larder-chunks-'));
    index ??= openChunkIndex(repository, { directory: scratch });
    refreshed ??= index.refresh(repository);
    await refreshed;
    return index.find(id);
  };
  const kept = new Map<Digest, Promise<SegmentLocations>>();
  const locationsOf = (leaf: WantedChunk['leaf']) => {
    let found = kept.get(leaf.digest);
    if (found === undefined) {
      found = readLocations(repository, leaf.digest, { chunks: leaf.chunks }).catch((error: unknown) => {
        if (error instanceof CorruptError) return new Map();
        throw error;
      });
      kept.set(leaf.digest, found);
      if (kept.size > KEPT) for (const oldest of kept.keys()) if (kept.delete(oldest)) break;
    }
    return found;
  };
  const readSound = async (location: ChunkLocation | undefined, signal: AbortSignal | undefined) => {
    if (location === undefined) return undefined;
    try {
      return await readChunk(repository, location, signal);
    } catch (error) {
      if (error instanceof CorruptError || error instanceof NotFoundError) return undefined;
      throw error;
    }
  };
  return {
    name: repository.location,
    [Symbol.dispose]() {
      index?.close();
      if (scratch !== undefined) rmSync(scratch, { recursive: true, force: true });
      index = undefined;
      scratch = undefined;
      refreshed = undefined;
    },
    async chunk({ id, leaf }, signal) {
      const found = await readSound((await locationsOf(leaf)).get(id), signal);
      return found ?? (await readSound(await indexed(id), signal));
    },
    async object(key, limit, signal) {
      try {
        return (await readObject(repository.bucket, key, limit, { signal })).bytes;
      } catch (error) {
        if (error instanceof CorruptError || error instanceof NotFoundError) return undefined;
        throw error;
      }
    },
  };
}
