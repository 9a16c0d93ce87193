import type { Digest } from '../../dataset/digest.ts';
import { CorruptError } from '../../dataset/errors.ts';
import { abortable } from '../../system/abortable.ts';
import { retrying } from '../hydrate/failures.ts';
import { isFull } from '../object-writer.ts';
import type { LoadedSegment, Place, StagedSource } from '../segment-reader.ts';
import { Course } from './course.ts';

/** Fetches what seems to come next in the versions that are being read. */
export interface ReadAhead {
  /** Misses in this version count, until the function that it gives is called. */
  follow(source: StagedSource): () => void;
  /** Somebody waits for what was found here. */
  miss(place: Place): void;
  close(): void;
}

/** Something on its way. */
export interface Underway {
  /** Settles when it has come, or failed. */
  readonly done: Promise<unknown>;
  /** No longer wanted. */
  leave(): void;
}

/** Something that is missing. */
export interface Missing {
  /** The same for the same: a pack has the files of many segments. */
  readonly key: Digest;
  begin(): Underway;
}

export interface ReadAheadParts {
  readonly load: (source: StagedSource, segment: Digest) => Promise<LoadedSegment>;
  /** What must be begun to have everything of a segment that is missing, as far as it is worth it. */
  readonly missing: (source: StagedSource, segment: LoadedSegment) => Iterable<Missing>;
  /** Whether there is room for more. */
  readonly hasRoom: () => boolean;
  /** How much is on its way at a time. */
  readonly width: number;
  /** How long to try for a segment, in milliseconds. */
  readonly patience: number;
  readonly random?: () => number;
}

/** After so many failures one after the other, an order is given up, until further misses tell of it. */
const FAILURES = 3;

export function createReadAhead(parts: ReadAheadParts): ReadAhead {
  const readers = new Map<string, Reader>();
  return {
    follow(source) {
      const key = keyOf(source);
      const reader = readers.get(key) ?? new Reader(source, parts);
      readers.set(key, reader);
      reader.followers += 1;
      return () => {
        reader.followers -= 1;
        if (reader.followers > 0) return;
        readers.delete(key);
        reader.stop();
      };
    },
    miss: (place) => readers.get(keyOf(place))?.miss(place.segment),
    close() {
      for (const reader of readers.values()) reader.stop();
      readers.clear();
    },
  };
}

function keyOf({ repository, version }: Pick<StagedSource, 'repository' | 'version'>): string {
  return `${repository.id}/${version}`;
}

/** One version that is read. */
class Reader {
  followers = 0;
  readonly #source: StagedSource;
  readonly #parts: ReadAheadParts;
  readonly #stopping = new AbortController();
  readonly #underway = new Map<Digest, Underway>();
  /** Called when something has come or failed. */
  #wake = () => {};
  #course: Course | undefined;
  #numbers: ReadonlyMap<Digest, number> | undefined;
  #pending: number[] = [];
  #fetching = false;
  #failures = 0;

  constructor(source: StagedSource, parts: ReadAheadParts) {
    this.#source = source;
    this.#parts = parts;
  }

  miss(segment: Digest): void {
    const { segments } = this.#source.map;
    this.#course ??= new Course(segments.length);
    this.#numbers ??= new Map(segments.map((digest, at) => [digest, at]));
    const number = this.#numbers.get(segment);
    if (number === undefined || this.#stopping.signal.aborted) return;
    const ahead = this.#course.miss(number, performance.now());
    if (!ahead || !this.#parts.hasRoom()) return;
    if (ahead.kind === 'following') {
      // Before a rest that is being fetched: somebody is near.
      this.#pending.unshift(...range(ahead.from, ahead.to));
    } else if (this.#pending.length < segments.length) {
      // From somewhere on, so that nodes that begin together do not all ask for the same.
      const start = Math.floor((this.#parts.random ?? Math.random)() * segments.length);
      this.#pending.push(...range(start, segments.length), ...range(0, start));
    }
    if (!this.#fetching) void this.#fetch();
  }

  stop(): void {
    this.#giveUp();
    this.#stopping.abort(new Error('the version is not read any more'));
    for (const one of this.#underway.values()) one.leave();
  }

  #giveUp(): void {
    this.#pending = [];
    this.#course?.forget();
  }

  async #fetch(): Promise<void> {
    const { load, missing, hasRoom, width, patience } = this.#parts;
    const { signal } = this.#stopping;
    const { segments } = this.#source.map;
    this.#fetching = true;
    this.#failures = 0;
    try {
      for (let next = this.#pending.shift(); next !== undefined; next = this.#pending.shift()) {
        const segment = await retrying(() => load(this.#source, segments[next!]!), patience, signal);
        const following = this.#pending[0];
        if (following !== undefined) load(this.#source, segments[following]!).catch(() => {});
        const found = missing(this.#source, segment)[Symbol.iterator]();
        for (;;) {
          while (this.#underway.size >= width) await abortable(this.#oneEnds(), signal);
          // Not before there is a place for it: what is missing when it is looked for is then begun at once.
          const one = found.next();
          if (one.done) break;
          if (this.#underway.has(one.value.key)) continue;
          if (!hasRoom() || this.#failures >= FAILURES) return this.#giveUp();
          this.#begin(one.value);
        }
      }
    } catch {
      // It is only ahead of its time: whoever asks for it meets what is wrong.
      this.#giveUp();
    } finally {
      this.#fetching = false;
    }
  }

  #oneEnds(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #begin({ key, begin }: Missing): void {
    const one = begin();
    this.#underway.set(key, one);
    one.done
      .then(
        () => {
          this.#failures = 0;
        },
        (error) => {
          if (isFull(error)) this.#failures = FAILURES;
          else if (!(error instanceof CorruptError)) this.#failures += 1;
        },
      )
      .finally(() => {
        this.#underway.delete(key);
        one.leave();
        this.#wake();
      });
  }
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, at) => from + at);
}
