/** What to fetch before it is asked for: segments of a version, by their number in the manifest's order. */
export type Ahead =
  /** Those from `from` up to, not with, `to`. */
  | { readonly kind: 'following'; readonly from: number; readonly to: number }
  /** All that is missing. */
  | { readonly kind: 'rest' };

/** An order in which somebody seems to read: from segment `first` on, he has come to `last`, and up to `end` is fetched. */
interface Run {
  readonly first: number;
  last: number;
  end: number;
  steps: number;
}

/** So many orders are followed at a time: readers who each go through a directory of their own. */
const RUNS = 16;

/** A miss so many segments beyond what was fetched still belongs to the order: what lay between was in the cache. */
const NEAR = 2;

/** How often somebody must have gone on before more is fetched for him. */
const STEPS = 2;

/** A version counts as read at random after misses in this part of its segments that follow no order, but within these bounds. */
const RANDOM_SHARE = 1 / 16;
const RANDOM_LEAST = 3;
const RANDOM_MOST = 256;

/** What was seen before a pause of this length, in milliseconds, is another reading. */
const PAUSE = 600_000;

/**
 * What misses of one version tell of how it is read. Only misses are seen: an open of what is cached never leaves the kernel.
 *
 * In an order, as much is fetched ahead as was read in that order: so a reader stops for what is missing ever more rarely, and what is
 * fetched in vain is never more than what was wanted. Where misses jump about in many segments, it is an epoch in random order, which
 * will want everything.
 */
export class Course {
  readonly #segments: number;
  #runs: Run[] = [];
  #jumps = new Set<number>();
  #seen = Number.NEGATIVE_INFINITY;

  /** @param segments how many the version has */
  constructor(segments: number) {
    this.#segments = segments;
  }

  /**
   * Something in this segment was opened and was not there.
   * @param now in milliseconds
   */
  miss(segment: number, now: number): Ahead | undefined {
    if (now - this.#seen > PAUSE) this.forget();
    this.#seen = now;
    const run = this.#runs.find(({ last, end }) => segment >= last && segment < Math.max(last + 1, end) + NEAR);
    if (run) return this.#goOn(run, segment);
    this.#runs.push({ first: segment, last: segment, end: segment + 1, steps: 0 });
    if (this.#runs.length > RUNS) this.#runs.shift();
    this.#jumps.add(segment);
    const many = Math.min(RANDOM_MOST, Math.max(RANDOM_LEAST, Math.ceil(this.#segments * RANDOM_SHARE)));
    if (this.#jumps.size <= many) return undefined;
    this.forget();
    return { kind: 'rest' };
  }

  /** What was seen counts no more. */
  forget(): void {
    this.#runs = [];
    this.#jumps = new Set();
  }

  #goOn(run: Run, segment: number): Ahead | undefined {
    if (segment === run.last) return undefined;
    run.last = segment;
    run.steps += 1;
    // The one used last is the last to be given up.
    this.#runs = [...this.#runs.filter((other) => other !== run), run];
    if (run.steps < STEPS) return undefined;
    const from = Math.max(run.end, segment + 1);
    const to = Math.min(this.#segments, segment + 1 + (segment + 1 - run.first));
    if (from >= to) return undefined;
    run.end = to;
    return { kind: 'following', from, to };
  }
}
