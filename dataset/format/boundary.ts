import type { ByteString } from '../byte-string.ts';

/*
 * Where a segment ends. Behind an entry, a leaf ends if it has at least `minimum` entries and the hash of the entry's path falls
 * on one in `oneIn`, or if it is full. An index segment ends behind a child by the same rule over the path of the child's last
 * entry. Nothing else decides, and every segment starts anew: the segments follow from the tree alone, however it came about, and
 * behind an edit they soon end where they ended before.
 */

interface Limits {
  readonly minimum: number;
  /** A power of two. */
  readonly oneIn: number;
  readonly maximum: number;
}

const leafLimits: Limits = { minimum: 64, oneIn: 256, maximum: 1024 };
/** The minimum makes every level at most a sixteenth of the one below, whatever the paths are. */
const indexLimits: Limits = { minimum: 16, oneIn: 128, maximum: 1024 };

/** A leaf whose rows, texts, digests and blobs reach this many bytes is full. */
const LEAF_BYTES = 256 * 1024;
/** An index segment with the minimum of children whose first and last paths reach this many bytes is full. */
const INDEX_BYTES = 1024 * 1024;

/** Whether a leaf of `count` entries and `weight` bytes ends behind the entry at `path`, its last. */
export function endsLeaf(path: ByteString, count: number, weight: number): boolean {
  return weight >= LEAF_BYTES || ends(path, 0, count, leafLimits);
}

/**
 * Whether an index segment of `level` with `count` children, whose first and last paths have `weight` bytes, ends behind the child
 * whose last entry is at `path`.
 */
export function endsIndex(path: ByteString, level: number, count: number, weight: number): boolean {
  return (weight >= INDEX_BYTES && count >= indexLimits.minimum) || ends(path, level, count, indexLimits);
}

function ends(path: ByteString, level: number, count: number, limits: Limits): boolean {
  if (count < limits.minimum) return false;
  return count >= limits.maximum || (pathHash(path, level) & (limits.oneIn - 1)) === 0;
}

/** 32 bits: FNV-1a over the path's bytes, then the level mixed in by the finalizer of MurmurHash3. */
export function pathHash(path: ByteString, level: number): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < path.length; i++) h = Math.imul(h ^ path.charCodeAt(i), 0x0100_0193);
  h ^= Math.imul(level, 0x9e37_79b9);
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
