import type { ByteString } from '../byte-string.ts';
import type { Digest } from '../digest.ts';
import type { SegmentRef } from '../format/index-node.ts';
import { comparePaths, isWithin } from '../path.ts';
import type { Repository } from '../repository.ts';
import { type EntryChange, pathOfChange } from './change-cursor.ts';
import { childAt } from './lower-bound.ts';
import { isIndex, readChild, type Segment } from './segments.ts';

/** Leaves that are read, or kept read, before the edit comes to them: on a bucket far away each is a round trip. */
const LEAVES_AHEAD = 32;

interface Read {
  readonly last: ByteString;
  readonly segment: Promise<Segment>;
}

/**
 * Reads those segments of a tree that an edit will open, before it does: for each change that is known, the index nodes and the leaf that
 * hold its place. What it does not foresee is read when it is asked for. A read that fails does so where the edit comes to it.
 */
export class ReadAhead {
  readonly #repository: Repository;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  /** Changes that are known and not looked at, in path order. */
  #planned: EntryChange[] = [];
  #next = 0;
  #root: Segment | undefined;
  /** Places that are being looked for. */
  #searches = 0;
  readonly #nodes = new Map<Digest, Read>();
  readonly #leaves = new Map<Digest, Read>();
  /** The last path of the last leaf that was found for a change: changes up to it need no other. */
  #found: ByteString | undefined;
  /** The last path of the last leaf that the edit took. */
  #taken: ByteString | undefined;
  /** What a change takes away with all below it: nothing in there is opened. */
  #removed: ByteString | undefined;

  constructor(repository: Repository, signal: AbortSignal | undefined) {
    this.#repository = repository;
    this.#signal = signal === undefined ? this.#stop.signal : AbortSignal.any([signal, this.#stop.signal]);
  }

  /** Begins, where the tree has more than a leaf. */
  start(root: Segment): void {
    if (!isIndex(root)) return;
    this.#root = root;
    // An edit opens the last leaf in any case.
    this.#search(undefined);
    this.#pump();
  }

  /** Tells of changes that come after those told of. */
  plan(changes: readonly EntryChange[]): void {
    this.#planned =
      this.#next === this.#planned.length ? [...changes] : [...this.#planned.slice(this.#next), ...changes];
    this.#next = 0;
    this.#pump();
  }

  /** The segment of a level that its parent tells of. They are taken in path order. */
  async take(ref: SegmentRef, level: number): Promise<Segment> {
    const reads = level === 0 ? this.#leaves : this.#nodes;
    const read = reads.get(ref.digest);
    if (level === 0) {
      this.#taken = ref.last;
      this.#leaves.delete(ref.digest);
    }
    for (const each of [this.#leaves, this.#nodes])
      for (const [digest, { last }] of each) if (comparePaths(last, ref.first) < 0) each.delete(digest);
    this.#pump();
    return await (read?.segment ?? readChild(this.#repository, ref, level, this.#signal));
  }

  /** Ends what is under way. */
  close(): void {
    this.#planned = [];
    this.#next = 0;
    this.#root = undefined;
    this.#stop.abort();
  }

  #pump(): void {
    while (this.#root !== undefined && this.#searches + this.#leaves.size < LEAVES_AHEAD) {
      const change = this.#planned[this.#next];
      if (change === undefined) return;
      this.#next += 1;
      const path = pathOfChange(change);
      if (this.#removed !== undefined && isWithin(path, this.#removed)) continue;
      if (change.kind === 'delete' || change.entry.type !== 'directory') this.#removed = path;
      if (!isBehind(path, this.#found) && !isBehind(path, this.#taken)) this.#search(path);
    }
  }

  /** Looks for the leaf of a path, or for the last one. */
  #search(path: ByteString | undefined): void {
    this.#searches += 1;
    this.#descend(path)
      // Whoever takes the node gets the failure.
      .catch(() => undefined)
      .finally(() => {
        this.#searches -= 1;
        this.#pump();
      });
  }

  async #descend(path: ByteString | undefined): Promise<void> {
    for (let segment = this.#root; segment !== undefined && isIndex(segment); ) {
      const { children, level }: { children: readonly SegmentRef[]; level: number } = segment;
      const child = path === undefined ? children.at(-1) : childAt(children, path);
      if (child === undefined) return;
      if (level === 1) {
        if (path !== undefined && !isBehind(child.last, this.#found)) this.#found = child.last;
        if (!isBehind(child.last, this.#taken)) this.#read(this.#leaves, child, 0);
        return;
      }
      segment = await this.#read(this.#nodes, child, level - 1);
    }
  }

  #read(into: Map<Digest, Read>, ref: SegmentRef, level: number): Promise<Segment> {
    const known = into.get(ref.digest);
    if (known !== undefined) return known.segment;
    const segment = readChild(this.#repository, ref, level, this.#signal);
    segment.catch(() => undefined);
    into.set(ref.digest, { last: ref.last, segment });
    return segment;
  }
}

/** Whether `path` is at or before `place`. */
function isBehind(path: ByteString, place: ByteString | undefined): boolean {
  return place !== undefined && comparePaths(path, place) <= 0;
}
