import type { Digest } from '../../dataset/digest.ts';
import type { ChunkLocation, SegmentLocations } from '../../dataset/location.ts';
import type { Place } from '../segment-reader.ts';

/** How near to where a run has come the next file of an order lies, in bytes of the pack. */
const NEAR = 1024 * 1024;

/** What may lie between two chunks of one request, in bytes. */
const GAP = 256 * 1024;

/** How much comes along with a file whose like were read in order: at first, and at most, in bytes. */
const FIRST_WINDOW = 256 * 1024;
const LAST_WINDOW = 4 * 1024 * 1024;

/** Larger chunks do not come along. */
const SMALL = 1024 * 1024;

/** Packs of which is remembered where a reader has come. */
const PACKS = 64;

interface Run {
  end: number;
  window: number;
}

/**
 * Small files that the cache has no room for: one request each where they are read at random; where they are read in about the order in
 * which their pack has them, each request brings those that follow, more of them the longer it goes on.
 */
export class SmallRuns {
  readonly #runs = new Map<string, Run>();
  readonly #sorted = new WeakMap<SegmentLocations, readonly ChunkLocation[]>();

  /** @param skip what need not come. @returns what one request should bring: `chunk` first, in the pack's order */
  plan({ repository, locations }: Place, chunk: ChunkLocation, skip: (id: Digest) => boolean): ChunkLocation[] {
    const key = `${repository.id}/${chunk.pack}`;
    const known = this.#runs.get(key);
    const inOrder = known !== undefined && Math.abs(chunk.offset - known.end) <= NEAR;
    const window = inOrder ? Math.min(LAST_WINDOW, Math.max(FIRST_WINDOW, known.window * 2)) : 0;
    const plan = [chunk];
    let end = chunk.offset + chunk.stored;
    if (window > 0) {
      for (const next of this.#sort(locations)) {
        if (next.pack !== chunk.pack || next.offset < end || next.length > SMALL || skip(next.id)) continue;
        const to = next.offset + next.stored;
        if (next.offset - end > GAP || to - chunk.offset > window) break;
        plan.push(next);
        end = to;
      }
    }
    this.#runs.delete(key);
    this.#runs.set(key, { end, window });
    if (this.#runs.size > PACKS) this.#runs.delete(this.#runs.keys().next().value!);
    return plan;
  }

  #sort(locations: SegmentLocations): readonly ChunkLocation[] {
    let sorted = this.#sorted.get(locations);
    if (!sorted) {
      sorted = [...locations.values()].sort((a, b) => a.offset - b.offset);
      this.#sorted.set(locations, sorted);
    }
    return sorted;
  }
}
