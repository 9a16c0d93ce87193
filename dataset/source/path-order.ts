import type { ByteString } from '../byte-string.ts';
import { comparePaths } from '../path.ts';
import { SpillFile, SpillQueue } from './spill.ts';

/** What a listing tells of: a path, in the byte order of the keys. */
export interface Listed {
  readonly path: ByteString;
}

export interface PathOrderOptions {
  /** Values that a queue writes to its temporary file together. */
  readonly step?: number;
  /** Where the temporary file is; the system's folder for such if not said. */
  readonly directory?: string;
}

const SLASH = 0x2f;
const STEP = 8192;

/**
 * Puts what comes in byte order of its paths into path order, in which `/` is below every other byte: `a-b`, `a/c`, `a0` becomes
 * `a/c`, `a-b`, `a0`. Equal paths stay in their order.
 *
 * A value may go as soon as nothing that belongs before it can come any more. Only a key that begins with `P/` can, where the value's path is
 * `P` and then a byte below `/`; so it waits for the first key behind all that begin with the shortest such `P/`. Values that wait are in
 * queues that are each in path order; a value joins the queue whose last one is the nearest before it. There are as many queues as
 * decreases follow each other, each at another place of one path: few, in practice one or two. What a queue cannot hold in memory goes to
 * a temporary file.
 */
export async function* inPathOrder<T extends Listed>(
  batches: AsyncIterable<readonly T[]>,
  { step = STEP, directory }: PathOrderOptions = {},
): AsyncGenerator<T[]> {
  using file = new SpillFile(directory);
  const lanes: Lane<T>[] = [];
  let given: T[] = [];
  for await (const batch of batches) {
    if (batch.length === 0) continue;
    for (const value of batch) laneFor(lanes, value, file, step).push(value);
    const current = batch.at(-1)!.path;
    for (;;) {
      const lane = least(lanes);
      if (lane === undefined || !isPast(lane.queue.first!.path, current)) break;
      given.push(lane.queue.first!);
      lane.queue.shift();
      if (given.length < step) continue;
      yield given;
      given = [];
    }
    if (given.length > 0) yield given;
    given = [];
  }
  for (let lane = least(lanes); lane !== undefined; lane = least(lanes)) {
    given.push(lane.queue.first!);
    lane.queue.shift();
    if (given.length < step) continue;
    yield given;
    given = [];
  }
  if (given.length > 0) yield given;
}

/** Whether no key from `current` on, in byte order, belongs before `path`, which came before it. */
function isPast(path: ByteString, current: ByteString): boolean {
  const at = lowByte(path);
  return at < 0 || !current.startsWith(path.slice(0, at)) || current.charCodeAt(at) > SLASH;
}

/** The place of the first byte below `/` that does not begin a component; -1 if there is none. */
function lowByte(path: ByteString): number {
  for (let i = 1; i < path.length; i++) if (path.charCodeAt(i) < SLASH && path.charCodeAt(i - 1) !== SLASH) return i;
  return -1;
}

/** A queue in path order, and its last path. */
class Lane<T extends Listed> {
  readonly queue: SpillQueue<T>;
  last: ByteString;

  constructor(queue: SpillQueue<T>, last: ByteString) {
    this.queue = queue;
    this.last = last;
  }

  push(value: T): void {
    this.queue.push(value);
    this.last = value.path;
  }
}

function laneFor<T extends Listed>(lanes: Lane<T>[], value: T, file: SpillFile, step: number): Lane<T> {
  let best: Lane<T> | undefined;
  for (const lane of lanes)
    if (comparePaths(lane.last, value.path) <= 0 && (best === undefined || comparePaths(best.last, lane.last) < 0))
      best = lane;
  if (best === undefined) {
    best = new Lane(new SpillQueue<T>(file, step), value.path);
    lanes.push(best);
  }
  return best;
}

/** The lane whose first value comes first; of equal ones, the one that was there first. */
function least<T extends Listed>(lanes: Lane<T>[]): Lane<T> | undefined {
  let best: Lane<T> | undefined;
  for (let i = 0; i < lanes.length; i++) {
    const lane = lanes[i]!;
    const { first } = lane.queue;
    if (first === undefined) {
      // Nothing waits in it: the next value begins it anew.
      if (lanes.length > 1) lanes.splice(i--, 1);
      continue;
    }
    if (best === undefined || comparePaths(first.path, best.queue.first!.path) < 0) best = lane;
  }
  return best;
}
