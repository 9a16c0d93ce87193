import { textOf } from './byte-string.ts';
import { openChunkIndex } from './chunk-index.ts';
import type { Digest } from './digest.ts';
import type { FileEntry, Part } from './entry.ts';
import { CorruptError, InvalidError, NotFoundError } from './errors.ts';
import { type ChunkLocation, readLocations } from './location.ts';
import { readSegments } from './manifest.ts';
import { mapAhead } from './map-ahead.ts';
import { readChunk } from './pack.ts';
import type { Repository } from './repository.ts';
import { readSource } from './source/read-source.ts';
import { openSource } from './source/sources.ts';

/** Chunks that are fetched while the consumer takes the one before. */
const AHEAD = 2;
/** Zeros are given in pieces of this many bytes. */
const ZEROS = 1 << 20;

export interface ReadFileOptions {
  /**
   * The root of the version that the entry is of: then its locations tell where the bytes lie. Without it, this machine's index of
   * chunks is asked, and brought up to date if it lacks one.
   */
  readonly root?: Digest;
  /** In bytes; the whole file if not said. Both ends are cut to the file's. */
  readonly range?: { readonly offset: number; readonly length: number };
  readonly signal?: AbortSignal;
}

/**
 * A file's bytes in order, each chunk verified before any of it is given; holes as zeros. A CorruptError names what is damaged or missing, or
 * the object in place that is not what it was.
 */
export async function* readFile(
  repository: Repository,
  entry: FileEntry,
  options: ReadFileOptions = {},
): AsyncGenerator<Buffer> {
  const { signal } = options;
  const start = Math.max(0, options.range?.offset ?? 0);
  const end = Math.min(entry.size, options.range ? start + options.range.length : entry.size);
  if (start >= end) return;
  const { content } = entry;
  if (content.kind === 'inline') {
    yield content.bytes.subarray(start, end);
    return;
  }
  if (content.kind === 'source') {
    const { bucket } = await openSource(repository, content);
    yield* readSource(bucket, content, entry.size, { range: { offset: start, length: end - start }, signal });
    return;
  }
  const parts: readonly Part[] = content.kind === 'chunk' ? [{ chunk: content.id, length: entry.size }] : content.parts;
  const placed: { part: Part; from: number; to: number }[] = [];
  let at = 0;
  for (const part of parts) {
    const from = Math.max(start - at, 0);
    const to = Math.min(end - at, part.length);
    if (from < to) placed.push({ part, from, to });
    at += part.length;
  }
  const wanted = placed.flatMap(({ part }) => (part.chunk === undefined ? [] : [part.chunk]));
  const find = async (gone?: Digest) =>
    options.root
      ? await locate(repository, options.root, entry, signal)
      : await locateByIndex(repository, entry, wanted, gone, signal);
  let locations = await find();
  const read = async (chunk: Digest): Promise<Buffer> => {
    const location = locations.get(chunk);
    if (location === undefined) throw missing(repository, entry, chunk);
    try {
      return await readChunk(repository, location, signal);
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
      // Moved by a repack since, or long ago, where this machine's index has not heard of it.
      locations = await find(location.pack);
      const moved = locations.get(chunk);
      if (moved === undefined || moved.pack === location.pack) throw error;
      return await readChunk(repository, moved, signal);
    }
  };
  const loaded = mapAhead(placed, AHEAD, async ({ part, from, to }) =>
    part.chunk === undefined ? { hole: to - from } : { bytes: (await read(part.chunk)).subarray(from, to) },
  );
  for await (const { bytes, hole } of loaded) {
    if (bytes) yield bytes;
    for (let left = hole ?? 0; left > 0; left -= ZEROS) yield Buffer.alloc(Math.min(left, ZEROS));
  }
}

/** Where the chunks lie of the leaf that holds the entry. */
async function locate(
  repository: Repository,
  root: Digest,
  entry: FileEntry,
  signal: AbortSignal | undefined,
): Promise<ReadonlyMap<Digest, ChunkLocation>> {
  for await (const { digest } of readSegments(repository, root, { prefix: entry.path, signal }))
    return await readLocations(repository, digest, { signal });
  throw new InvalidError(`version has no path '${textOf(entry.path)}'`, { facts: { path: textOf(entry.path) } });
}

async function locateByIndex(
  repository: Repository,
  entry: FileEntry,
  wanted: readonly Digest[],
  gone: Digest | undefined,
  signal: AbortSignal | undefined,
): Promise<ReadonlyMap<Digest, ChunkLocation>> {
  using index = openChunkIndex(repository);
  if (gone !== undefined) {
    index.forgetPack(gone);
    index.forgetSegments();
  }
  const found = new Map<Digest, ChunkLocation>();
  const look = () => {
    for (const id of wanted) {
      const location = index.find(id);
      if (location) found.set(id, location);
      else return id;
    }
    return undefined;
  };
  if (look() !== undefined) {
    await index.refresh(repository, { signal });
    const lacking = look();
    if (lacking !== undefined) throw missing(repository, entry, lacking);
  }
  return found;
}

function missing(repository: Repository, entry: FileEntry, chunk: Digest): CorruptError {
  return new CorruptError(
    `chunk ${chunk} of '${textOf(entry.path)}' is stored nowhere in ${repository.location}; 'larder verify' tells what is missing`,
    { facts: { path: textOf(entry.path), chunk } },
  );
}
