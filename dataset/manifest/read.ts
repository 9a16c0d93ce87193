import { type ByteString, textOf } from '../byte-string.ts';
import type { Digest } from '../digest.ts';
import type { Entry } from '../entry.ts';
import type { SegmentRef } from '../format/index-node.ts';
import { mapAhead } from '../map-ahead.ts';
import { comparePaths, isWithin } from '../path.ts';
import type { Repository } from '../repository.ts';
import { TreeCheck } from '../tree-check.ts';
import { childAt, lowerBound } from './lower-bound.ts';
import {
  checkChild,
  damaged,
  isIndex,
  readAnySegment,
  readChild,
  readKeptSegment,
  refOf,
  type Segment,
} from './segments.ts';

export interface ReadOptions {
  /** Only this directory, or file, and what is below it. */
  readonly prefix?: ByteString;
  /** Only entries at or after this path. */
  readonly from?: ByteString;
  readonly signal?: AbortSignal;
}

/** Leaves that are read while the consumer works on the one before. */
const LEAVES_AHEAD = 8;

/**
 * A manifest's entries in path order, a batch for each leaf segment. Read whole, it is checked to be a tree: every directory
 * comes before what it holds. A CorruptError names the segment at fault.
 */
export async function* readEntries(
  repository: Repository,
  root: Digest,
  options: ReadOptions = {},
): AsyncGenerator<readonly Entry[]> {
  const { prefix, from, signal } = options;
  const check = prefix === undefined && from === undefined ? new TreeCheck() : undefined;
  const leaves = mapAhead(leavesOf(repository, root, options), LEAVES_AHEAD, async (leaf) => ({
    digest: leaf.ref.digest,
    entries: leaf.entries ?? ((await readChild(repository, leaf.ref, 0, signal)) as readonly Entry[]),
  }));
  for await (const { digest, entries } of leaves) {
    signal?.throwIfAborted();
    if (check !== undefined) {
      for (const entry of entries) {
        const fault = check.accept(entry);
        if (fault !== undefined) throw damaged(digest, `the entry '${textOf(entry.path)}' ${fault}`);
      }
      yield entries;
      continue;
    }
    const inRange = entries.filter(
      ({ path }) =>
        (prefix === undefined || isWithin(path, prefix)) && (from === undefined || comparePaths(path, from) >= 0),
    );
    if (inRange.length > 0) yield inRange;
  }
}

/** A manifest's leaf segments in path order, none of which is read unless it is the root. */
export async function* readSegments(
  repository: Repository,
  root: Digest,
  options: ReadOptions = {},
): AsyncGenerator<SegmentRef> {
  for await (const { ref } of leavesOf(repository, root, options)) yield ref;
}

/** The entry at `path`; undefined where there is none. */
export async function findEntry(
  repository: Repository,
  root: Digest,
  path: ByteString,
  signal?: AbortSignal,
): Promise<Entry | undefined> {
  signal?.throwIfAborted();
  let segment = await readKeptSegment(repository, root);
  while (isIndex(segment)) {
    const { children, level }: { children: readonly SegmentRef[]; level: number } = segment;
    const child = childAt(children, path);
    if (child === undefined || comparePaths(child.first, path) > 0) return undefined;
    signal?.throwIfAborted();
    segment = checkChild(child, level - 1, await readKeptSegment(repository, child.digest));
  }
  const entries: readonly Entry[] = segment;
  const entry = entries[lowerBound(entries.length, (i) => comparePaths(entries[i]!.path, path) < 0)];
  return entry?.path === path ? entry : undefined;
}

interface Leaf {
  readonly ref: SegmentRef;
  /** Where it had to be read to know it. */
  readonly entries?: readonly Entry[];
}

async function* leavesOf(repository: Repository, root: Digest, options: ReadOptions): AsyncGenerator<Leaf> {
  const segment = await readAnySegment(repository, root, options.signal);
  const ref = refOf(root, segment);
  if (ref === undefined) return;
  if (isIndex(segment)) yield* leavesBelow(repository, segment, options);
  else if (mayHold(ref, options)) yield { ref, entries: segment };
}

async function* leavesBelow(repository: Repository, segment: Segment, options: ReadOptions): AsyncGenerator<Leaf> {
  if (!isIndex(segment)) return;
  const level = segment.level - 1;
  const children = segment.children.filter((child) => mayHold(child, options));
  if (level === 0) for (const ref of children) yield { ref };
  else {
    const nodes = mapAhead(children, 2, (child) => readChild(repository, child, level, options.signal));
    for await (const node of nodes) yield* leavesBelow(repository, node, options);
  }
}

/** Whether a segment can have an entry in the range. */
function mayHold({ first, last }: SegmentRef, { prefix, from }: ReadOptions): boolean {
  if (from !== undefined && comparePaths(last, from) < 0) return false;
  if (prefix === undefined) return true;
  return comparePaths(last, prefix) >= 0 && (comparePaths(first, prefix) <= 0 || isWithin(first, prefix));
}
