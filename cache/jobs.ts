import type { Bucket } from '../dataset/bucket/bucket.ts';
import type { Digest } from '../dataset/digest.ts';
import type { SourceContent } from '../dataset/entry.ts';
import { CorruptError } from '../dataset/errors.ts';
import { partsId } from '../dataset/format/parts.ts';
import type { ChunkLocation } from '../dataset/location.ts';
import { READ_THROUGH_BYTES, readChunk, readChunks, streamPack } from '../dataset/pack.ts';
import type { Repository } from '../dataset/repository.ts';
import { readSource } from '../dataset/source/read-source.ts';
import type { LocatedPart } from './crew-protocol.ts';
import { FORETELL, isFull, type ObjectWriter } from './object-writer.ts';

export interface UnpackOptions {
  readonly repository: Repository;
  readonly pack: Digest;
  readonly writer: ObjectWriter;
  /** Whether a content id is one of a staged version's files, or awaited. */
  readonly isWanted: (id: Digest) => boolean;
  /** Whether somebody waits for it. */
  readonly isUrgent: (id: Digest) => boolean;
  readonly signal?: AbortSignal;
}

/**
 * Reads a pack once, in order, and puts every file in it that is wanted and missing. A chunk that is a whole file has the file's
 * content id, so nothing more need be known of it; parts of larger files are passed over. Once there is no room for one of them,
 * only those that somebody waits for are tried.
 * @throws CorruptError where the pack is damaged, UnavailableError with `facts.full` where something of it had no room; what was
 * read before stays
 */
export async function unpack({ repository, pack, writer, isWanted, isUrgent, signal }: UnpackOptions): Promise<void> {
  let full: unknown;
  /** Wanted and missing when the pack's index came. */
  let planned: Digest[] = [];
  let isPlanned = new Set<Digest>();
  let foretold = 0;
  let met = 0;
  const isMissing = (id: Digest) => isPlanned.has(id) || (isWanted(id) && !writer.has(id));
  try {
    await streamPack(
      repository,
      pack,
      (id) => (!full || isUrgent(id)) && isMissing(id),
      (id, bytes) => {
        met += 1;
        if (met > foretold - FORETELL / 2) foretellMore();
        try {
          writer.put(id, bytes);
        } catch (error) {
          if (!isFull(error)) throw error;
          full = error;
        }
        if (isUrgent(id)) writer.show();
      },
      signal,
      {
        lend: true,
        onIndex: (entries) => {
          planned = entries.map(({ id }) => id).filter(isMissing);
          isPlanned = new Set(planned);
          foretellMore();
        },
      },
    );
  } finally {
    writer.flush();
    writer.forget(planned);
  }
  if (full) throw full;

  function foretellMore(): void {
    const more = planned.slice(foretold, foretold + FORETELL);
    foretold += more.length;
    if (more.length > 0) void writer.foretell(more);
  }
}

export interface FetchPiecesOptions {
  readonly repository: Repository;
  readonly pack: Digest;
  /** Each a whole file, in ascending order of their offsets. */
  readonly chunks: readonly ChunkLocation[];
  readonly writer: ObjectWriter;
  readonly signal?: AbortSignal;
}

/** Requests of one job under way at a time. */
export const RANGES_AT_ONCE = 4;

/**
 * Reads some chunks of a pack and puts each in place: what lies close together with one request.
 * @throws CorruptError where one is damaged, UnavailableError with `facts.full` where one had no room; the others are in place
 */
export async function fetchPieces({ repository, pack, chunks, writer, signal }: FetchPiecesOptions): Promise<void> {
  const wanted = chunks.filter(({ id }) => !writer.has(id));
  const ids = wanted.map(({ id }) => id);
  const failures: unknown[] = [];
  const foretelling = ids.length > 0 && ids.length <= FORETELL ? writer.foretell(ids) : undefined;
  const runs = runsOf(wanted);
  const work = async () => {
    for (let run = runs.shift(); run; run = runs.shift()) {
      try {
        const chunks = run;
        await readChunks(repository, pack, chunks, (bytes, at) => writer.put(chunks[at]!.id, bytes), signal, {
          lend: true,
        });
      } catch (error) {
        failures.push(error);
      }
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(RANGES_AT_ONCE, runs.length) }, work));
    await foretelling;
  } finally {
    writer.flush();
    writer.forget(ids);
  }
  signal?.throwIfAborted();
  if (failures.length > 0) throw failures.find((error) => !isFull(error)) ?? failures[0];
}

/** Chunks that are read with one request each run. */
function runsOf(chunks: readonly ChunkLocation[]): ChunkLocation[][] {
  const runs: ChunkLocation[][] = [];
  let end = Number.NEGATIVE_INFINITY;
  for (const chunk of chunks) {
    if (chunk.offset - end <= READ_THROUGH_BYTES) runs.at(-1)!.push(chunk);
    else runs.push([chunk]);
    end = chunk.offset + chunk.stored;
  }
  return runs;
}

export interface AssembleOptions {
  readonly repository: Repository;
  readonly id: Digest;
  /** In order; one part without a hole is a file of one chunk. */
  readonly parts: readonly LocatedPart[];
  readonly writer: ObjectWriter;
  readonly signal?: AbortSignal;
}

/** Chunks read ahead of the one that is being written: with it, this many are in memory. */
const READ_AHEAD = 3;

/**
 * Puts one object together. Its chunks are checked as they come; that these chunks in this order are the object is checked
 * before any is read.
 * @throws CorruptError where a chunk is damaged or the parts are another object's
 */
export async function assembleFile({ repository, id, parts, writer, signal }: AssembleOptions): Promise<void> {
  if (writer.has(id)) return writer.flush();
  const only = parts.length === 1 ? parts[0]!.chunk : undefined;
  const named =
    only ?? partsId(parts.map(({ chunk, length }) => (chunk === undefined ? { length } : { chunk, length })));
  if (named !== id) {
    throw new CorruptError(`the parts that a manifest gives for ${id} make ${named}: run 'larder verify'`, {
      facts: { object: id },
    });
  }
  const file = writer.begin(
    id,
    parts.reduce((sum, { chunk, length }) => (chunk === undefined ? sum : sum + length), 0),
  );
  const foretelling = writer.foretell([id]);
  let size = 0;
  try {
    const positions = parts.map(({ length }) => {
      size += length;
      return size - length;
    });
    const ahead: Promise<Buffer | undefined>[] = [];
    const start = (at: number) => {
      const location = parts[at]?.location;
      const chunk = location ? readChunk(repository, location, signal) : Promise.resolve(undefined);
      // Met in its turn; until then a failure must not count as unhandled.
      chunk.catch(() => {});
      ahead.push(chunk);
    };
    let next = 0;
    for (let at = 0; at < parts.length; at += 1) {
      while (next < parts.length && next <= at + READ_AHEAD) start(next++);
      const bytes = await ahead.shift()!;
      const { chunk, length } = parts[at]!;
      if (chunk === undefined) continue;
      if (bytes?.length !== length) {
        throw new CorruptError(
          `chunk ${chunk} of object ${id} has ${bytes?.length} bytes where the manifest says ${length}`,
          {
            facts: { object: id, chunk },
          },
        );
      }
      file.write(bytes, positions[at]!);
    }
  } catch (error) {
    file.abort();
    throw error;
  }
  file.finish(size);
  await foretelling;
  writer.flush();
  writer.forget([id]);
}

export interface FetchOptions {
  /** Where the object lies. */
  readonly bucket: Bucket;
  readonly content: SourceContent;
  /** In bytes. */
  readonly size: number;
  readonly writer: ObjectWriter;
  readonly signal?: AbortSignal;
}

/**
 * Copies an object that stays in a bucket of its own, as it was when it was imported: the store compares its ETag or gives its version, and its
 * length is checked here.
 * @throws CorruptError that names bucket and key where it has changed or is gone
 */
export async function fetchSource({ bucket, content, size, writer, signal }: FetchOptions): Promise<void> {
  const { id } = content;
  if (writer.has(id)) return writer.flush();
  const file = writer.begin(id, size);
  const foretelling = writer.foretell([id]);
  let at = 0;
  try {
    for await (const block of readSource(bucket, content, size, { signal })) {
      file.write(block, at);
      at += block.length;
    }
  } catch (error) {
    file.abort();
    throw error;
  }
  file.finish(size);
  await foretelling;
  writer.flush();
  writer.forget([id]);
}
