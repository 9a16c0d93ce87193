import { hash } from 'node:crypto';
import { threadId, workerData } from 'node:worker_threads';
import { zstdDecompress } from '../../system/calls/zstd.ts';
import type { ByteString } from '../byte-string.ts';
import { damagedChunk } from '../chunk-codec.ts';
import type { Digest } from '../digest.ts';
import { CorruptError, InvalidError, NotFoundError } from '../errors.ts';
import { packName } from '../format/pack.ts';
import { packKey } from '../keys.ts';
import { openRepository } from '../repository.ts';
import { serve } from '../threads/serve.ts';
import { type EntryBatch, metadataAt } from './file-batch.ts';
import { Layout } from './layout.ts';
import { Writer } from './writer.ts';

export interface CheckoutWorkerData {
  readonly repository: string;
  readonly root: ByteString;
  readonly unique: string;
  readonly isStaged: boolean;
}

/** A chunk, and where its bytes go. */
export interface ChunkTarget {
  readonly id: Digest;
  readonly offset: number;
  readonly stored: number;
  readonly length: number;
  readonly codec: 'raw' | 'zstd';
  /** Files of the task's batch that are this chunk. */
  readonly files: readonly number[];
  /** Unfinished files that it is a part of. */
  readonly parts: readonly { readonly temporary: ByteString; readonly at: number }[];
}

export type CheckoutTask =
  /** Reads a run of a pack and writes its chunks. */
  | {
      readonly kind: 'chunks';
      readonly pack: Digest;
      readonly chunks: readonly ChunkTarget[];
      readonly batch: EntryBatch;
    }
  /** Writes entries whose content is known: bytes of a file, or a link's target. */
  | { readonly kind: 'plain'; readonly batch: EntryBatch; readonly contents: readonly (Uint8Array | ByteString)[] }
  /** Gives unfinished files their names. */
  | { readonly kind: 'finish'; readonly batch: EntryBatch; readonly temporaries: readonly ByteString[] }
  /** Sets the metadata of directories. `moved`: they are at their places already. */
  | { readonly kind: 'directories'; readonly batch: EntryBatch; readonly moved: boolean };

export interface CheckoutReply {
  readonly lostXattrs: number;
}

const { repository: location, root, unique, isStaged } = workerData as CheckoutWorkerData;
const repository = await openRepository(location);
const writer = new Writer(new Layout(root, unique, isStaged), threadId);
/** What most runs fit into, in bytes, and such memory while no task uses it. */
const RUN = 5 << 20;
const spare: Buffer[] = [];
let scratch = Buffer.allocUnsafeSlow(1 << 20);

serve<CheckoutTask>(async (task) => {
  switch (task.kind) {
    case 'chunks':
      await writeChunks(task.pack, task.chunks, task.batch);
      break;
    case 'plain':
      for (const [i, content] of task.contents.entries()) {
        const path = task.batch.paths[i]!;
        if (typeof content === 'string') writer.symlink(path, content, metadataAt(task.batch, i));
        else writer.file(path, content, metadataAt(task.batch, i));
      }
      break;
    case 'finish':
      for (const [i, temporary] of task.temporaries.entries())
        writer.finish(temporary, task.batch.paths[i]!, metadataAt(task.batch, i));
      break;
    case 'directories':
      for (const [i, path] of task.batch.paths.entries()) writer.directory(path, metadataAt(task.batch, i), task.moved);
      break;
  }
  const { lostXattrs } = writer;
  writer.lostXattrs = 0;
  return { result: { lostXattrs } satisfies CheckoutReply };
}, 2);

async function writeChunks(pack: Digest, chunks: readonly ChunkTarget[], batch: EntryBatch): Promise<void> {
  const start = chunks[0]!.offset;
  const last = chunks.at(-1)!;
  const length = last.offset + last.stored - start;
  // Used again: fresh memory costs as much as filling it.
  let memory = spare.pop();
  if (memory === undefined || memory.length < length) memory = Buffer.allocUnsafeSlow(Math.max(length, RUN));
  const run = memory.subarray(0, length);
  await readRun(pack, start, run);
  for (const chunk of chunks) {
    const stored = run.subarray(chunk.offset - start, chunk.offset - start + chunk.stored);
    const bytes = restore(pack, chunk, stored);
    for (const index of chunk.files) writer.file(batch.paths[index]!, bytes, metadataAt(batch, index));
    for (const { temporary, at } of chunk.parts) writer.part(temporary, at, bytes);
  }
  if (memory.length === RUN) spare.push(memory);
}

/** Fills `run` with the pack's bytes from `offset` on. */
async function readRun(pack: Digest, offset: number, run: Buffer): Promise<void> {
  const { length } = run;
  let done = 0;
  try {
    const options = { range: { offset, length }, into: () => run, checked: true };
    const { body } = await repository.bucket.get(packKey(pack), options);
    for await (const block of body) {
      // Where the bucket has put it there, it is there.
      if (block.buffer !== run.buffer || block.byteOffset !== run.byteOffset + done) block.copy(run, done);
      done += block.length;
    }
  } catch (error) {
    if (!(error instanceof NotFoundError) && !(error instanceof InvalidError)) throw error;
    const fault = error instanceof NotFoundError ? 'is missing' : 'is damaged: it ends too early';
    throw new CorruptError(`${packName(pack)} ${fault}; 'larder verify' tells which files that affects`, {
      cause: error,
      facts: { pack },
    });
  }
  if (done < length) throw new CorruptError(`${packName(pack)} is damaged: it ends too early`, { facts: { pack } });
}

/** The chunk's bytes, verified; good until the next call. */
function restore(pack: Digest, { id, length, codec }: ChunkTarget, stored: Buffer): Buffer {
  let bytes = stored;
  if (codec === 'zstd') {
    if (scratch.length < length) scratch = Buffer.allocUnsafeSlow(length);
    bytes = scratch.subarray(0, length);
    if (zstdDecompress(bytes, stored) !== length) throw damagedChunk(pack, id, 'its zstd frame cannot be read');
  }
  if (bytes.length !== length) throw damagedChunk(pack, id, `it has ${bytes.length} bytes instead of ${length}`);
  const actual = hash('sha256', bytes, 'hex');
  if (actual !== id) throw damagedChunk(pack, id, `its digest is ${actual}`);
  return bytes;
}
