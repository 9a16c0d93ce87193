import type { Bucket } from '../bucket/bucket.ts';
import { readObject } from '../bucket/read-object.ts';
import { textOf } from '../byte-string.ts';
import type { Digest } from '../digest.ts';
import type { Entry } from '../entry.ts';
import { CorruptError, NotFoundError } from '../errors.ts';
import type { IndexNode, SegmentRef } from '../format/index-node.ts';
import { decodeSegment, SEGMENT_LIMIT, segmentName } from '../format/segment.ts';
import { segmentKey } from '../keys.ts';
import type { Repository } from '../repository.ts';

export type Segment = readonly Entry[] | IndexNode;

/** Index nodes kept decoded for each open repository: some megabytes at most. */
const KEPT_NODES = 64;

/** Leaves kept for look-ups of single entries, which come in neighbourhoods. */
const KEPT_LEAVES = 8;

/** By bucket, so that they go when it does. Segments never change: what is kept is never stale. */
const keptNodes = new WeakMap<Bucket, Map<Digest, IndexNode>>();
const keptLeaves = new WeakMap<Bucket, Map<Digest, Promise<Segment>>>();

export function isIndex(segment: Segment): segment is IndexNode {
  return !Array.isArray(segment);
}

/** A segment, verified; a CorruptError where it is damaged or missing. */
export async function readAnySegment(repository: Repository, digest: Digest, signal?: AbortSignal): Promise<Segment> {
  const kept = keptIn(keptNodes, repository);
  const known = kept.get(digest);
  if (known !== undefined) {
    keep(kept, digest, known, KEPT_NODES);
    return known;
  }
  const segment = decodeSegment(digest, await readBytes(repository, digest, signal));
  if (isIndex(segment)) keep(kept, digest, segment, KEPT_NODES);
  return segment;
}

/** As `readAnySegment`, and keeps a few leaves too; for one segment that many ask for at once, it is read once. */
export async function readKeptSegment(repository: Repository, digest: Digest): Promise<Segment> {
  const kept = keptIn(keptLeaves, repository);
  const reading = kept.get(digest) ?? readAnySegment(repository, digest);
  keep(kept, digest, reading, KEPT_LEAVES);
  try {
    return await reading;
  } catch (error) {
    if (kept.get(digest) === reading) kept.delete(digest);
    throw error;
  }
}

function keptIn<T>(all: WeakMap<Bucket, Map<Digest, T>>, { bucket }: Repository): Map<Digest, T> {
  let kept = all.get(bucket);
  if (kept === undefined) {
    kept = new Map();
    all.set(bucket, kept);
  }
  return kept;
}

/** Puts a value at the young end, and drops what is too old. */
function keep<T>(kept: Map<Digest, T>, digest: Digest, value: T, limit: number): void {
  kept.delete(digest);
  kept.set(digest, value);
  if (kept.size > limit) for (const oldest of kept.keys()) if (kept.delete(oldest)) break;
}

/** A leaf's entries; a CorruptError where the segment is an index. */
export async function readSegment(
  repository: Repository,
  digest: Digest,
  signal?: AbortSignal,
): Promise<readonly Entry[]> {
  const segment = await readAnySegment(repository, digest, signal);
  if (isIndex(segment)) throw damaged(digest, `it is an index of level ${segment.level} where a leaf is expected`);
  return segment;
}

/** The segment that a parent of `level + 1` tells of, checked against what the parent tells. */
export async function readChild(
  repository: Repository,
  ref: SegmentRef,
  level: number,
  signal?: AbortSignal,
): Promise<Segment> {
  return checkChild(ref, level, await readAnySegment(repository, ref.digest, signal));
}

/** Gives `segment` back if it is what its parent, of `level + 1`, tells of it. */
export function checkChild(ref: SegmentRef, level: number, segment: Segment): Segment {
  const found = isIndex(segment) ? segment.level : 0;
  if (found !== level) throw damaged(ref.digest, `it has the level ${found}, and its parent tells of ${level}`);
  const actual = refOf(ref.digest, segment)!;
  for (const field of ['entries', 'bytes'] as const)
    if (actual[field] !== ref[field])
      throw damaged(ref.digest, `it has ${actual[field]} ${field}, and its parent tells of ${ref[field]}`);
  for (const field of ['first', 'last'] as const)
    if (actual[field] !== ref[field])
      throw damaged(
        ref.digest,
        `its ${field} entry is '${textOf(actual[field])}', and its parent tells of '${textOf(ref[field])}'`,
      );
  return segment;
}

/** What a parent tells of a segment; undefined for the leaf of an empty tree, which has no parent. */
export function refOf(digest: Digest, segment: Segment): SegmentRef | undefined {
  let entries = 0;
  let bytes = 0;
  if (isIndex(segment)) {
    for (const child of segment.children) {
      entries += child.entries;
      bytes += child.bytes;
    }
    return { digest, first: segment.children[0]!.first, last: segment.children.at(-1)!.last, entries, bytes };
  }
  if (segment.length === 0) return undefined;
  for (const entry of segment) if (entry.type === 'file') bytes += entry.size;
  return { digest, first: segment[0]!.path, last: segment.at(-1)!.path, entries: segment.length, bytes };
}

export function damaged(digest: Digest, fault: string): CorruptError {
  const name = segmentName(digest);
  return new CorruptError(`${name} is damaged: ${fault}`, { facts: { object: name, segment: digest, fault } });
}

async function readBytes(repository: Repository, digest: Digest, signal: AbortSignal | undefined): Promise<Buffer> {
  try {
    return (await readObject(repository.bucket, segmentKey(digest), SEGMENT_LIMIT + 64, { signal })).bytes;
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    const name = segmentName(digest);
    throw new CorruptError(`${name} is missing from ${repository.location}`, {
      cause: error,
      facts: { object: name, segment: digest, fault: 'missing' },
    });
  }
}
