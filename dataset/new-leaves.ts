import type { Digest } from './digest.ts';
import { CorruptError } from './errors.ts';
import type { SegmentRef } from './format/index-node.ts';
import { readChild, refOf } from './manifest/segments.ts';
import { isIndex, readAnySegment, type Segment } from './manifest.ts';
import { comparePaths } from './path.ts';
import type { Repository } from './repository.ts';

/** A manifest, and where it is read from. */
export interface Manifest {
  readonly repository: Repository;
  readonly root: Digest;
}

/** A leaf that the base does not have. */
export interface NewLeaf {
  readonly digest: Digest;
  /** What its parent tells of it; undefined where it is the root. */
  readonly ref: SegmentRef | undefined;
  /** Leaves of the base with paths in its range: its unchanged entries come from them. */
  readonly base: readonly Digest[];
}

export interface NewLeavesOptions {
  readonly base?: Manifest;
  /** Told of each index segment that the base does not have, parents before their children. */
  readonly onIndex?: (digest: Digest) => void;
  /**
   * Told of a segment of the manifest that is damaged, instead of throwing; what is below it is passed over. What is damaged in the base then
   * only counts as different.
   */
  readonly onDamage?: (digest: Digest, ref: SegmentRef | undefined, error: CorruptError) => void;
  readonly signal?: AbortSignal;
}

/**
 * The leaves of a manifest that `base` does not have, in path order. What both have is not read, on every level of the tree; a leaf is not
 * read at all, unless it is the root.
 */
export async function* newLeaves(manifest: Manifest, options: NewLeavesOptions = {}): AsyncGenerator<NewLeaf> {
  const { base, onDamage, signal } = options;
  const { root } = manifest;
  if (root === base?.root) return;
  const walk = new Walk(manifest, options);
  const segment = await walk.read(readAnySegment(manifest.repository, root, signal), (error) =>
    onDamage!(root, undefined, error),
  );
  if (segment === undefined) return;
  const ref = refOf(root, segment);
  if (ref === undefined) {
    yield { digest: root, ref, base: [] };
    return;
  }
  let candidates: readonly SegmentRef[] = [];
  let level = 0;
  if (base !== undefined) {
    const found = await walk.read(readAnySegment(base.repository, base.root, signal));
    const top = found && refOf(base.root, found);
    if (found !== undefined && top !== undefined) {
      candidates = [top];
      level = levelOf(found);
    }
  }
  // The base may be the higher tree: then its own segments of the root's level are what the root is compared with.
  for (; level > levelOf(segment); level--) candidates = await walk.below(candidates, level, ref);
  if (candidates.some(({ digest }) => digest === root)) return;
  yield* walk.leaves(ref, segment, candidates, level);
}

class Walk {
  readonly #manifest: Manifest;
  readonly #options: NewLeavesOptions;

  constructor(manifest: Manifest, options: NewLeavesOptions) {
    this.#manifest = manifest;
    this.#options = options;
  }

  /**
   * @param segment that of `ref`, which the base does not have
   * @param candidates segments of the base of level `at`, which is not above `segment`'s, that overlap it; in path order
   */
  async *leaves(
    ref: SegmentRef,
    segment: Segment,
    candidates: readonly SegmentRef[],
    at: number,
  ): AsyncGenerator<NewLeaf> {
    const { root, repository } = this.#manifest;
    const { onIndex, onDamage, signal } = this.#options;
    if (!isIndex(segment)) {
      const base = candidates.map(({ digest }) => digest);
      yield { digest: ref.digest, ref: ref.digest === root ? undefined : ref, base };
      return;
    }
    onIndex?.(ref.digest);
    const level = segment.level - 1;
    const below = at > level ? await this.below(candidates, at, ref) : candidates;
    const known = new Set(below.map(({ digest }) => digest));
    let first = 0;
    for (const child of segment.children) {
      signal?.throwIfAborted();
      if (known.has(child.digest)) continue;
      while (first < below.length && comparePaths(below[first]!.last, child.first) < 0) first++;
      let end = first;
      while (end < below.length && comparePaths(below[end]!.first, child.last) <= 0) end++;
      const near = below.slice(first, end);
      if (level === 0) {
        yield { digest: child.digest, ref: child, base: near.map(({ digest }) => digest) };
        continue;
      }
      const found = await this.read(readChild(repository, child, level, signal), (error) =>
        onDamage!(child.digest, child, error),
      );
      if (found !== undefined) yield* this.leaves(child, found, near, Math.min(at, level));
    }
  }

  /** What lies below segments of the base of this level, as far as it overlaps `range`. */
  async below(refs: readonly SegmentRef[], level: number, range: SegmentRef): Promise<SegmentRef[]> {
    const { base, signal } = this.#options;
    const found: SegmentRef[] = [];
    for (const ref of refs) {
      const segment = await this.read(readChild(base!.repository, ref, level, signal));
      if (segment === undefined || !isIndex(segment)) continue;
      for (const child of segment.children)
        if (comparePaths(child.last, range.first) >= 0 && comparePaths(child.first, range.last) <= 0) found.push(child);
    }
    return found;
  }

  /** Undefined where the segment is damaged and that is told of. */
  async read(reading: Promise<Segment>, tell?: (error: CorruptError) => void): Promise<Segment | undefined> {
    try {
      return await reading;
    } catch (error) {
      if (this.#options.onDamage === undefined || !(error instanceof CorruptError)) throw error;
      tell?.(error);
      return undefined;
    }
  }
}

function levelOf(segment: Segment): number {
  return isIndex(segment) ? segment.level : 0;
}
