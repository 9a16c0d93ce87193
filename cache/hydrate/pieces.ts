import type { Digest } from '../../dataset/digest.ts';
import type { ChunkLocation } from '../../dataset/location.ts';
import type { Repository } from '../../dataset/repository.ts';
import type { PiecesJob } from '../crew-protocol.ts';
import type { JobQueue, Priority, Share } from '../job-queue.ts';
import { RANGES_AT_ONCE } from '../jobs.ts';
import type { Rate } from '../rate.ts';
import { chunkMemory, READ_MEMORY } from './memory.ts';

/** What one job reads at most: chunks, and their bytes. */
const MOST_CHUNKS = 1024;
const MOST_BYTES = 8 * 1024 * 1024;

/** From so many bytes on, a job is not over in a moment. */
const SMALL_BYTES = 1024 * 1024;

/** Of a limited version, one job reads at most what this many seconds bring, and no less than so many bytes: others of it have their turn. */
const LIMITED_SECONDS = 2;
const LIMITED_BYTES = 256 * 1024;

interface Gathering {
  readonly key: string;
  readonly chunks: Map<Digest, ChunkLocation>;
  bytes: number;
  /** What the chunk takes that takes most. */
  most: number;
}

/** Gathers what is wanted of a pack, but not all of it, until a job for it is started: neighbours are then read with one request. */
export class Pieces {
  readonly #queue: JobQueue;
  readonly #gathering = new Map<string, Gathering>();
  readonly #rates = new WeakMap<Rate, number>();
  #serial = 0;

  constructor(queue: JobQueue) {
    this.#queue = queue;
  }

  /** @param location of a chunk that is a whole file */
  share(repository: Repository, location: ChunkLocation, priority: Priority, rate?: Rate): Share {
    const { pack, id, stored } = location;
    // Those that somebody waits for are not held up by others.
    const small = priority === 'urgent' && stored < SMALL_BYTES;
    const place = `${repository.id}/${pack}/${priority}/${small}/${this.#nameOf(rate)}`;
    let one = this.#gathering.get(place);
    const most = Math.min(small ? SMALL_BYTES : MOST_BYTES, bytesWithin(rate));
    const full = one && (one.chunks.size >= MOST_CHUNKS || one.bytes + stored > most);
    if (!one || full || !this.#queue.has(one.key)) {
      one = { key: `${repository.id}/pieces/${this.#serial++}`, chunks: new Map(), bytes: 0, most: 0 };
      this.#gathering.set(place, one);
    }
    const gathering = one;
    if (!gathering.chunks.has(id)) {
      gathering.chunks.set(id, location);
      gathering.bytes += stored;
      gathering.most = Math.max(gathering.most, chunkMemory(location));
    }
    const task = (): PiecesJob => {
      if (this.#gathering.get(place) === gathering) this.#gathering.delete(place);
      const chunks = [...gathering.chunks.values()].sort((a, b) => a.offset - b.offset);
      return { kind: 'pieces', pack, chunks };
    };
    const memory = () => Math.min(RANGES_AT_ONCE, gathering.chunks.size) * (READ_MEMORY + gathering.most);
    return this.#queue.share(gathering.key, repository, { task, memory, small, rate }, priority);
  }

  /** What tells rates apart, in a key. */
  #nameOf(rate: Rate | undefined): string {
    if (rate === undefined) return '';
    const name = this.#rates.get(rate) ?? this.#serial++;
    this.#rates.set(rate, name);
    return String(name);
  }
}

function bytesWithin(rate: Rate | undefined): number {
  if (rate === undefined) return Number.POSITIVE_INFINITY;
  return Math.max(LIMITED_BYTES, rate.bytesPerSecond * LIMITED_SECONDS);
}
