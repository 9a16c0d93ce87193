import type { ByteString } from '../byte-string.ts';
import type { Entry } from '../entry.ts';
import { comparePaths } from '../path.ts';
import { type SpillBlock, SpillFile } from './spill.ts';

/** What is sorted: an entry, or what becomes one. */
type Sorted = { readonly path: ByteString };

/** An entry, and which of all that were added it is. */
export interface Numbered<T extends Sorted = Entry> {
  readonly entry: T;
  readonly number: number;
}

export interface PathSorterOptions {
  /** How many are held in memory, at most. */
  readonly held?: number;
  readonly directory?: string;
}

const HELD = 65_536;
/** What entries held may weigh, in bytes and roughly. */
const HELD_BYTES = 48 << 20;
const BLOCK = 1024;

/**
 * Sorts entries that come in any order, however many: runs that memory cannot hold go to a temporary file and are merged. Only entries go there;
 * their files' bytes are stored as they come.
 */
export class PathSorter<T extends Sorted = Entry> implements Disposable {
  readonly #file: SpillFile;
  readonly #limit: number;
  #held: Numbered<T>[] = [];
  #weight = 0;
  readonly #runs: SpillBlock[][] = [];
  #isSorted = true;

  constructor({ held = HELD, directory }: PathSorterOptions = {}) {
    this.#limit = held;
    this.#file = new SpillFile(directory);
  }

  add(entry: T, number: number): void {
    this.#held.push({ entry, number });
    this.#isSorted = false;
    this.#weight += weightOf(entry);
    if (this.#held.length < this.#limit && this.#weight < HELD_BYTES) return;
    this.#sort();
    const run: SpillBlock[] = [];
    for (let i = 0; i < this.#held.length; i += BLOCK) run.push(this.#file.write(this.#held.slice(i, i + BLOCK)));
    this.#runs.push(run);
    this.#held = [];
    this.#weight = 0;
  }

  /** All of them in path order, those of one path in the order of their numbers. May be asked for again. */
  *sorted(): Generator<Numbered<T>> {
    this.#sort();
    const heap = new Heap<T>();
    for (const run of this.#runs) heap.push(this.#cursor(run));
    heap.push(this.#held[Symbol.iterator]());
    for (let next = heap.take(); next !== undefined; next = heap.take()) yield next;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }

  #sort(): void {
    if (!this.#isSorted) this.#held.sort(compare);
    this.#isSorted = true;
  }

  *#cursor(run: readonly SpillBlock[]): Generator<Numbered<T>> {
    for (const block of run) yield* this.#file.read<Numbered<T>>(block);
  }
}

function compare(a: Numbered<Sorted>, b: Numbered<Sorted>): number {
  return comparePaths(a.entry.path, b.entry.path) || a.number - b.number;
}

function weightOf(sorted: Sorted & Partial<Entry>): number {
  const entry = sorted as Entry;
  let weight = 256 + 2 * entry.path.length;
  for (const { value } of entry.xattrs ?? []) weight += 128 + value.length;
  if (entry.type !== 'file') return weight;
  if (entry.content.kind === 'chunks') weight += entry.content.parts.length * 128;
  if (entry.content.kind === 'inline') weight += entry.content.bytes.length;
  return weight;
}

interface Cursor<T extends Sorted> {
  readonly values: Iterator<Numbered<T>>;
  first: Numbered<T>;
}

/** The least of several sorted runs: a binary heap of where each is. */
class Heap<T extends Sorted> {
  readonly #cursors: Cursor<T>[] = [];

  push(values: Iterator<Numbered<T>>): void {
    const { done, value } = values.next();
    if (done) return;
    const cursors = this.#cursors;
    cursors.push({ values, first: value });
    for (let at = cursors.length - 1; at > 0; ) {
      const parent = (at - 1) >> 1;
      if (compare(cursors[parent]!.first, cursors[at]!.first) <= 0) break;
      [cursors[parent], cursors[at]] = [cursors[at]!, cursors[parent]!];
      at = parent;
    }
  }

  take(): Numbered<T> | undefined {
    const cursors = this.#cursors;
    const [top] = cursors;
    if (top === undefined) return undefined;
    const taken = top.first;
    const { done, value } = top.values.next();
    if (!done) top.first = value;
    else {
      const last = cursors.pop()!;
      if (cursors.length === 0) return taken;
      cursors[0] = last;
    }
    for (let at = 0; ; ) {
      let least = at;
      for (const child of [2 * at + 1, 2 * at + 2])
        if (child < cursors.length && compare(cursors[child]!.first, cursors[least]!.first) < 0) least = child;
      if (least === at) break;
      [cursors[least], cursors[at]] = [cursors[at]!, cursors[least]!];
      at = least;
    }
    return taken;
  }
}
