import type { Digest } from '../../dataset/digest.ts';
import { CorruptError } from '../../dataset/errors.ts';
import type { ChunkLocation } from '../../dataset/location.ts';
import type { Repository } from '../../dataset/repository.ts';
import { openSource } from '../../dataset/source/sources.ts';
import type { Place } from '../segment-reader.ts';
import type { Pieces } from './pieces.ts';
import type { SmallRuns } from './small-runs.ts';
import type { Landing, StreamJob } from './stream-job.ts';

export interface PieceJobOptions {
  readonly id: Digest;
  readonly place: Place;
  readonly pieces: Pieces;
  readonly at: number;
  readonly landing: Landing | undefined;
  readonly runs: SmallRuns;
  /** Chunks that need not come along. */
  readonly isHere: (chunk: Digest) => boolean;
}

export interface PieceJob {
  /** Its bucket is what the task reads. */
  readonly repository: Repository;
  readonly task: StreamJob;
  /** Chunks of other files that come with the piece, after it. */
  readonly along: readonly ChunkLocation[];
}

/** What brings a piece. */
export async function pieceJob(options: PieceJobOptions): Promise<PieceJob> {
  const { id, place, pieces, at, landing, runs, isHere } = options;
  const { repository, locations } = place;
  const { source, size } = pieces;
  const length = pieces.length(at);
  if (source) {
    const { bucket } = await openSource(repository, source);
    const task = { kind: 'stream-range', content: source, size, offset: pieces.offset(at), length, landing } as const;
    return { repository: { ...repository, bucket }, task, along: [] };
  }
  const chunk = pieces.chunk(at)!;
  const location = locations.get(chunk);
  if (location?.length !== length) {
    throw new CorruptError(`the locations of object ${id} do not fit its chunk ${chunk}: run 'larder verify'`, {
      facts: { object: id, chunk },
    });
  }
  const plan = landing || pieces.count > 1 ? [location] : runs.plan(place, location, isHere);
  const chunks = plan.map((one) => (one === location ? { location, landing } : { location: one }));
  return { repository, task: { kind: 'stream-chunks', pack: location.pack, chunks }, along: plan.slice(1) };
}
