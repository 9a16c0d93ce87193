import type { MessagePort } from 'node:worker_threads';
import type { Digest } from '../dataset/digest.ts';
import type { Part, SourceContent } from '../dataset/entry.ts';
import type { ChunkLocation } from '../dataset/location.ts';
import type { ThreadError } from '../dataset/threads/thread-error.ts';
import type { Layout } from './layout.ts';
import type { Placed } from './object-writer.ts';
import type { StreamJob } from './stream/stream-job.ts';

/** What a worker thread of the cache is started with. */
export interface CrewStart {
  readonly layout: Layout;
  readonly writerName: string;
  readonly bootId: string;
  /** For `openRoom`; without it, there is room without a limit. */
  readonly room?: SharedArrayBuffer;
  /** For `PortBuckets`. */
  readonly buckets: MessagePort;
}

/** Reads one pack to its end, and puts every object in it that a staged version has and the cache lacks. */
export interface PackJob {
  readonly kind: 'pack';
  readonly pack: Digest;
}

/** Reads some chunks of a pack that are whole files, and puts each in place: neighbours with one request. */
export interface PiecesJob {
  readonly kind: 'pieces';
  readonly pack: Digest;
  /** In ascending order of their offsets. */
  readonly chunks: readonly ChunkLocation[];
}

/** Puts one object together from its parts. */
export interface FileJob {
  readonly kind: 'file';
  readonly id: Digest;
  readonly parts: readonly LocatedPart[];
}

/** Copies an object that lies in a bucket of its own. */
export interface SourceJob {
  readonly kind: 'source';
  readonly content: SourceContent;
  /** In bytes, as the entry says. */
  readonly size: number;
}

export type CrewJob = PackJob | PiecesJob | FileJob | SourceJob | StreamJob;

/** A part and where its chunk lies; a hole has no place. */
export interface LocatedPart extends Part {
  readonly location?: ChunkLocation;
}

/** From the main thread to a worker. */
export type CrewOrder =
  | {
      readonly job: number;
      /** `direct`: the worker opens it itself. */
      readonly repository: { readonly id: string; readonly location: string; readonly direct: boolean };
      readonly task: CrewJob;
    }
  /** Somebody waits for this object: show it at once, not with the rest of its batch. */
  | { readonly urgent: Digest }
  | { readonly calm: Digest }
  | { readonly abort: number }
  | { readonly stageMap: number; readonly file: string; readonly root: Digest }
  | { readonly dropStageMap: number }
  | { readonly close: true };

/** From a worker to the main thread. */
export type CrewReport =
  | { readonly placed: readonly Placed[] }
  | { readonly retired: string }
  /** Of a `StreamJob`: see `PieceListener`. */
  | { readonly pieceOf: number; readonly at: number; readonly bytes?: Uint8Array }
  /** `read`: how many bytes it read of a repository that it opened itself. */
  | { readonly done: number; readonly read: number; readonly error?: ThreadError };
