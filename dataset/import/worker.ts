import { workerData } from 'node:worker_threads';
import type { ByteString } from '../byte-string.ts';
import { serve } from '../threads/serve.ts';
import { BlockWriter } from './block-writer.ts';
import { type ReadBatch, Reader } from './reader.ts';
import { type KeptListings, type Piece, Scanner, type ScanSettings, type Stretch } from './scan.ts';
import { openKeptListings } from './stat-cache.ts';

/** What an import's worker threads are told at their start. */
export interface ImportWorkerData {
  /** Undefined where the threads only read files. */
  readonly scan: ScanSettings | undefined;
  /** The file of what the last import kept, if that is to be used. */
  readonly kept: string | undefined;
}

export type ImportTask =
  | { readonly kind: 'directories'; readonly paths: readonly ByteString[] }
  | { readonly kind: 'stretch'; readonly path: ByteString; readonly stretch: Stretch }
  | ({ readonly kind: 'batch' } & ReadBatch)
  | {
      readonly kind: 'stream';
      readonly path: ByteString;
      readonly facts: Float64Array<ArrayBuffer>;
      /** Put chunks into blocks, which are given: as many as a `BlockWriter` needs when it says that it begins. */
      readonly inBlocks: boolean;
    };

const { scan, kept } = workerData as ImportWorkerData;
const listings: KeptListings | undefined = kept === undefined ? undefined : openKeptListings(kept);
const scanner = scan && new Scanner(scan, listings);
const reader = new Reader();

serve<ImportTask>((task, send, take) => {
  switch (task.kind) {
    case 'directories': {
      const result = task.paths.map((path) => scanner!.directory(path));
      const transfer = result.flatMap(({ piece, stretches }) => [
        ...(piece ? buffersOf(piece) : []),
        ...stretches.flatMap(({ names }) => (names ? [names.buffer] : [])),
      ]);
      return { result, transfer };
    }
    case 'stretch': {
      const result = scanner!.stretch(task.path, task.stretch);
      return { result, transfer: buffersOf(result) };
    }
    case 'batch': {
      const result = reader.batch(task);
      const { buffer } = result.bytes;
      return { result, transfer: [result.facts.buffer, ...(buffer instanceof ArrayBuffer ? [buffer] : [])] };
    }
    case 'stream':
      return reader
        .stream(
          task.path,
          task.facts,
          (part) => (part.kind === 'chunk' ? send(part, part.bytes.length, [part.bytes.buffer]) : send(part, 0, [])),
          task.inBlocks ? new BlockWriter(take as () => Promise<SharedArrayBuffer>) : undefined,
        )
        .then((result) => ({ result }));
  }
});

function buffersOf({ words, names, states, keep }: Piece): ArrayBuffer[] {
  const buffers = [words.buffer, names.buffer, states.buffer];
  return keep ? [...buffers, keep.buffer] : buffers;
}
