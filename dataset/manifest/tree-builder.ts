import { textOf } from '../byte-string.ts';
import type { Digest } from '../digest.ts';
import type { Entry } from '../entry.ts';
import { InvalidError } from '../errors.ts';
import { endsIndex, endsLeaf } from '../format/boundary.ts';
import { ChunkList, type ChunkRef } from '../format/chunk-list.ts';
import { encodeIndexNode, LEVEL_LIMIT, type SegmentRef } from '../format/index-node.ts';
import { LeafEncoder } from '../format/leaf.ts';
import { type SealedSegment, sealSegment } from '../format/segment.ts';
import { TreeCheck } from '../tree-check.ts';
import { refOf } from './segments.ts';

/** A segment that is complete. */
export interface BuiltSegment extends SealedSegment {
  readonly level: number;
  /** Of a leaf: the chunks of its entries, each once, in order of first appearance. */
  readonly chunks: readonly ChunkRef[];
}

export interface BuiltTree {
  readonly root: Digest;
  readonly entries: number;
  readonly bytes: number;
}

/**
 * Makes the segments of a tree from its entries in path order, or from whole segments of another tree. Holds what is not yet
 * in a complete segment: one at most for each level.
 */
export class TreeBuilder {
  readonly #leaf = new LeafEncoder();
  readonly #chunks = new ChunkList();
  readonly #check = new TreeCheck();
  /** By level, from 1: the children of the segment that is being made. */
  readonly #pending: SegmentRef[][] = [[]];
  /** By level, from 1: how many children there have been. */
  readonly #totals: number[] = [0];
  /** By level, from 1: the bytes of the first and last paths of those children. */
  readonly #weights: number[] = [0];
  readonly #complete: (segment: BuiltSegment) => void;

  /** @param complete is called with each segment, children before parents, while entries are added */
  constructor(complete: (segment: BuiltSegment) => void) {
    this.#complete = complete;
  }

  /** @param isSound whether the entry was read from a segment: then it needs no check of its own */
  add(entry: Entry, isSound = false): void {
    const fault = this.#check.accept(entry);
    if (fault !== undefined)
      throw new InvalidError(`the entry '${textOf(entry.path)}' ${fault}`, { facts: { path: textOf(entry.path) } });
    this.#leaf.add(entry, isSound);
    this.#chunks.add(entry);
    if (endsLeaf(entry.path, this.#leaf.count, this.#leaf.weight)) this.#endLeaf();
  }

  /** Whether a segment of `level` starts here: nothing is under way on this level or below. */
  startsAt(level: number): boolean {
    if (this.#leaf.count > 0) return false;
    for (let i = 1; i <= level; i++) if ((this.#pending[i]?.length ?? 0) > 0) return false;
    return true;
  }

  /**
   * Adds all of a segment without its bytes. Only where `startsAt(level)`, and only a segment that ended by the rule of
   * boundary.ts, not because its tree did; then the same segments come out as if its entries were added.
   */
  addSegment(level: number, ref: SegmentRef): void {
    this.#check.skipTo(ref.last);
    this.#push(level, ref);
  }

  finish(): BuiltTree {
    if (this.#leaf.count > 0) this.#endLeaf();
    if (this.#pending.length === 1) {
      const { digest } = this.#seal(0, this.#leaf.finish());
      return { root: digest, entries: 0, bytes: 0 };
    }
    for (let level = 1; ; level++) {
      const children = this.#pending[level]!;
      if (this.#totals[level] === 1) {
        const { digest, entries, bytes } = children[0]!;
        return { root: digest, entries, bytes };
      }
      if (children.length > 0) this.#endIndex(level);
    }
  }

  #endLeaf(): void {
    const { count: entries, bytes, first, last } = this.#leaf;
    const { digest } = this.#seal(0, this.#leaf.finish());
    this.#push(0, { digest, first: first!, last: last!, entries, bytes });
  }

  #endIndex(level: number): void {
    const children = this.#pending[level]!;
    this.#pending[level] = [];
    this.#weights[level] = 0;
    const { digest } = this.#seal(level, encodeIndexNode({ level, children }));
    this.#push(level, refOf(digest, { level, children })!);
  }

  #seal(level: number, raw: Buffer): SealedSegment {
    const sealed = sealSegment(raw);
    this.#complete({ ...sealed, level, chunks: this.#chunks.take() });
    return sealed;
  }

  /** A segment of `level` is complete: it becomes a child on the next. */
  #push(level: number, ref: SegmentRef): void {
    const above = level + 1;
    if (above > LEVEL_LIMIT) throw new InvalidError('the tree has too many entries');
    while (this.#pending.length <= above) {
      this.#pending.push([]);
      this.#totals.push(0);
      this.#weights.push(0);
    }
    this.#pending[above]!.push(ref);
    this.#totals[above]! += 1;
    this.#weights[above]! += ref.first.length + ref.last.length;
    if (endsIndex(ref.last, above, this.#pending[above]!.length, this.#weights[above]!)) this.#endIndex(above);
  }
}
