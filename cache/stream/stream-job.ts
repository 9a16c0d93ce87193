import { chmodSync, writeSync } from 'node:fs';
import type { Bucket } from '../../dataset/bucket/bucket.ts';
import type { Digest } from '../../dataset/digest.ts';
import type { SourceContent } from '../../dataset/entry.ts';
import { DiskFullError, isDiskFull } from '../../dataset/errors.ts';
import type { ChunkLocation } from '../../dataset/location.ts';
import { readChunks } from '../../dataset/pack.ts';
import type { Repository } from '../../dataset/repository.ts';
import { readSource } from '../../dataset/source/read-source.ts';

/** Where a piece of a file goes, by descriptors of the whole process: its owner closes them when no job is at work. */
export interface Landing {
  /** Of the partial file. */
  readonly file: number;
  /** Where in it, in bytes. */
  readonly position: number;
  /** Of the file that tells which pieces are there. */
  readonly marks: number;
  /** Which byte of it stands for this piece. */
  readonly mark: number;
}

/** The mark of a piece that is there. */
export const THERE = new Uint8Array([1]);

/** A chunk that is asked for; without a landing its bytes are sent. */
export interface WantedChunk {
  readonly location: ChunkLocation;
  readonly landing?: Landing;
}

/** Reads chunks of one pack, in the pack's order, with one request. */
export interface ChunksJob {
  readonly kind: 'stream-chunks';
  readonly pack: Digest;
  readonly chunks: readonly WantedChunk[];
}

/** Reads a range of an object that lies in a bucket of its own. */
export interface RangeJob {
  readonly kind: 'stream-range';
  readonly content: SourceContent;
  /** Of the whole object, in bytes. */
  readonly size: number;
  readonly offset: number;
  readonly length: number;
  readonly landing?: Landing;
}

/** Makes a partial file that is whole the object. */
export interface AdoptJob {
  readonly kind: 'stream-adopt';
  readonly id: Digest;
  readonly file: string;
  /** In bytes. */
  readonly size: number;
}

export type StreamJob = ChunksJob | RangeJob | AdoptJob;

export function isStreamJob(task: { readonly kind: string }): task is StreamJob {
  return task.kind.startsWith('stream-');
}

/** Told of each piece that is verified and, where it has a landing, written. `bytes`: only where it has none. */
export type PieceListener = (at: number, bytes?: Uint8Array) => void;

/** Puts a file of the cache's file system in place as an object: see `ObjectWriter`. */
export interface Adopter {
  adopt(id: Digest, file: string, size: number): void;
  flush(): void;
}

export interface StreamJobOptions {
  /** Its bucket is what is read: of a source, the bucket where that lies. */
  readonly repository: Repository;
  readonly task: StreamJob;
  readonly writer: Adopter;
  readonly onPiece: PieceListener;
  readonly signal: AbortSignal;
}

/**
 * Does a job of a stream, on a worker thread.
 * @throws CorruptError that names the chunk, or the source's key; DiskFullError
 */
export async function runStreamJob({ repository, task, writer, onPiece, signal }: StreamJobOptions): Promise<void> {
  const deliver = (at: number, bytes: Uint8Array, landing: Landing | undefined) => {
    if (landing) land(bytes, landing);
    onPiece(at, landing ? undefined : bytes);
  };
  if (task.kind === 'stream-adopt') {
    chmodSync(task.file, 0o444);
    writer.adopt(task.id, task.file, task.size);
    writer.flush();
  } else if (task.kind === 'stream-range') {
    deliver(0, await readRange(repository.bucket, task, signal), task.landing);
  } else {
    const { pack, chunks } = task;
    const locations = chunks.map(({ location }) => location);
    await readChunks(repository, pack, locations, async (bytes, at) => deliver(at, bytes, chunks[at]!.landing), signal);
  }
}

async function readRange(
  bucket: Bucket,
  { content, size, offset, length }: RangeJob,
  signal: AbortSignal,
): Promise<Buffer> {
  const out = Buffer.allocUnsafeSlow(length);
  let at = 0;
  for await (const block of readSource(bucket, content, size, { range: { offset, length }, signal })) {
    at += block.copy(out, at);
  }
  return out;
}

/** The mark comes after the bytes: whoever finds it finds them. */
function land(bytes: Uint8Array, { file, position, marks, mark }: Landing): void {
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, bytes.length - at, position + at);
    writeSync(marks, THERE, 0, 1, mark);
  } catch (error) {
    if (!isDiskFull(error)) throw error;
    throw new DiskFullError('the disk of the cache is full', { cause: error });
  }
}
