import type { ByteString } from './byte-string.ts';
import type { Digest } from './digest.ts';
import type { Content, Entry, Xattr } from './entry.ts';
import type { SegmentRef } from './format/index-node.ts';
import { readChild, refOf } from './manifest/segments.ts';
import { isIndex, readAnySegment, type Segment } from './manifest.ts';
import { comparePaths, isWithin } from './path.ts';
import type { Repository } from './repository.ts';

/**
 * How an entry differs: `type` is another kind of entry at the path, `modified` another content (or target), `metadata` only another mode,
 * owner, time, attribute or link group.
 */
export type DifferenceKind = 'added' | 'removed' | 'modified' | 'metadata' | 'type';

export interface Difference {
  readonly kind: DifferenceKind;
  readonly path: ByteString;
  readonly before?: Entry;
  readonly after?: Entry;
  /** The leaf segment that `after` is in. */
  readonly leaf?: Digest;
}

export interface DiffOptions {
  /** Only this path and what is below it. */
  readonly prefix?: ByteString;
  /** Segments of each tree that are read before their turn; 8 if not said. None for who may stop at the first difference. */
  readonly ahead?: number;
  readonly signal?: AbortSignal;
}

/**
 * What differs between two trees, in path order. Segments that both have are not read, on every level of the tree: the cost is that of
 * the difference.
 * @param before the root of a manifest, as is `after`; undefined for an empty tree
 */
export async function* diffVersions(
  repository: Repository,
  before: Digest | undefined,
  after: Digest | undefined,
  options: DiffOptions = {},
): AsyncGenerator<Difference> {
  if (before === after) return;
  const [a, b] = await Promise.all([Cursor.open(repository, before, options), Cursor.open(repository, after, options)]);
  for (;;) {
    options.signal?.throwIfAborted();
    a.readAhead(b);
    b.readAhead(a);
    if (a.node && b.node) {
      if (a.node.ref.digest === b.node.ref.digest) {
        a.skip();
        b.skip();
        continue;
      }
      // What lies wholly before the other has nothing to be compared with; else the higher one is opened, or both.
      if (comparePaths(a.node.ref.last, b.node.ref.first) < 0) await a.open();
      else if (comparePaths(b.node.ref.last, a.node.ref.first) < 0) await b.open();
      else if (a.node.level > b.node.level) await a.open();
      else if (b.node.level > a.node.level) await b.open();
      else await Promise.all([a.open(), b.open()]);
      continue;
    }
    const x = a.entry;
    const y = b.entry;
    if (x && y) {
      const order = comparePaths(x.path, y.path);
      if (order === 0) {
        const kind = differenceOf(x, y);
        if (kind) yield { kind, path: x.path, before: x, after: y, leaf: b.leaf };
        a.skip();
        b.skip();
      } else if (order < 0) yield a.take('removed');
      else yield b.take('added');
    } else if (x) {
      // An entry against a segment: it stands alone if it comes before the segment; else the segment holds what it is compared with.
      if (b.node && comparePaths(x.path, b.node.ref.first) >= 0) await b.open();
      else yield a.take('removed');
    } else if (y) {
      if (a.node && comparePaths(y.path, a.node.ref.first) >= 0) await a.open();
      else yield b.take('added');
    } else if (a.node) await a.open();
    else if (b.node) await b.open();
    else return;
  }
}

/** How two entries of one path differ; undefined if they do not. */
export function differenceOf(before: Entry, after: Entry): DifferenceKind | undefined {
  if (before.type !== after.type) return 'type';
  if (before.type === 'symlink' && after.type === 'symlink' && before.target !== after.target) return 'modified';
  if (before.type === 'file' && after.type === 'file') {
    if (before.size !== after.size || !sameContent(before.content, after.content)) return 'modified';
    if (before.link !== after.link) return 'metadata';
  }
  for (const field of ['mode', 'uid', 'gid', 'mtimeSeconds', 'mtimeNanos'] as const)
    if (before[field] !== after[field]) return 'metadata';
  return sameXattrs(before.xattrs, after.xattrs) ? undefined : 'metadata';
}

function sameContent(a: Content, b: Content): boolean {
  if (a.kind === 'inline' || b.kind === 'inline')
    return a.kind === 'inline' && b.kind === 'inline' && a.bytes.equals(b.bytes);
  return a.id === b.id;
}

function sameXattrs(a: readonly Xattr[] = [], b: readonly Xattr[] = []): boolean {
  return a.length === b.length && a.every(({ name, value }, i) => name === b[i]!.name && value.equals(b[i]!.value));
}

interface Node {
  readonly ref: SegmentRef;
  readonly level: number;
}

/** The children of an index segment, of which those from `at` on are still to come. */
interface Frame {
  readonly nodes: readonly Node[];
  readonly digests: ReadonlySet<Digest>;
  at: number;
}

/** Segments that are read before their turn: on a bucket far away each is a round trip. */
const AHEAD = 8;

/** A place in a tree: before a segment that is not opened, before an entry of a leaf, or at the end. */
class Cursor {
  readonly #repository: Repository;
  readonly #options: DiffOptions;
  /** What follows, innermost last; each list is taken from its place on. */
  readonly #stack: Frame[] = [];
  readonly #ahead = new Map<Digest, Promise<Segment>>();
  /** The frame and the place in it up to which it was looked for what to read ahead. */
  #looked: { readonly frame: Frame; at: number } | undefined;
  #entries: readonly Entry[] = [];
  #at = 0;
  #leaf: Digest | undefined;

  private constructor(repository: Repository, options: DiffOptions) {
    this.#repository = repository;
    this.#options = options;
  }

  static async open(repository: Repository, root: Digest | undefined, options: DiffOptions): Promise<Cursor> {
    const cursor = new Cursor(repository, options);
    if (root === undefined) return cursor;
    const segment = await readAnySegment(repository, root, options.signal);
    const ref = refOf(root, segment);
    // A root by itself is never equal to the other's: it is opened at once.
    if (ref) cursor.#enter(root, segment);
    return cursor;
  }

  /** The leaf that the entry at this place is in. */
  get leaf(): Digest | undefined {
    return this.#leaf;
  }

  /** The segment at this place; undefined where there is an entry, or nothing. */
  get node(): Node | undefined {
    if (this.#at < this.#entries.length) return undefined;
    const top = this.#stack.at(-1);
    return top?.nodes[top.at];
  }

  /** The entry at this place; undefined where there is a segment, or nothing. */
  get entry(): Entry | undefined {
    return this.#entries[this.#at];
  }

  /** Passes the entry by, or the whole segment. */
  skip(): void {
    if (this.#at < this.#entries.length) this.#at++;
    else {
      this.#ahead.delete(this.node!.ref.digest);
      this.#stack.at(-1)!.at++;
    }
    this.#trim();
  }

  /** Passes the entry by, which only this tree has. */
  take(kind: 'added' | 'removed'): Difference {
    const entry = this.#entries[this.#at]!;
    this.skip();
    const { path } = entry;
    return kind === 'added' ? { kind, path, after: entry, leaf: this.#leaf } : { kind, path, before: entry };
  }

  /** Goes into the segment. */
  async open(): Promise<void> {
    const node = this.node!;
    const { digest } = node.ref;
    const reading = this.#ahead.get(digest) ?? this.#read(node);
    this.#ahead.delete(digest);
    this.#stack.at(-1)!.at++;
    this.#trim();
    this.#enter(digest, await reading);
  }

  /** Begins to read the next segments that the other tree does not have, as far as both are known. */
  readAhead(other: Cursor): void {
    const [frame, its] = [this.#stack.at(-1), other.#stack.at(-1)];
    if (frame === undefined || (its !== undefined && its.nodes[0]!.level !== frame.nodes[0]!.level)) return;
    if (this.#looked?.frame !== frame) this.#looked = { frame, at: frame.at };
    const looked = this.#looked;
    looked.at = Math.max(looked.at, frame.at);
    const { ahead = AHEAD } = this.#options;
    for (; looked.at < frame.nodes.length && this.#ahead.size < ahead; looked.at++) {
      const node = frame.nodes[looked.at]!;
      if (its !== undefined && comparePaths(node.ref.last, its.nodes.at(-1)!.ref.last) > 0) return;
      if (its?.digests.has(node.ref.digest)) continue;
      const reading = this.#read(node);
      // It fails where its turn comes.
      reading.catch(() => undefined);
      this.#ahead.set(node.ref.digest, reading);
    }
  }

  #read({ ref, level }: Node): Promise<Segment> {
    return readChild(this.#repository, ref, level, this.#options.signal);
  }

  #enter(digest: Digest, segment: Segment): void {
    const { prefix } = this.#options;
    if (isIndex(segment)) {
      const level = segment.level - 1;
      const nodes = segment.children.filter((ref) => mayHold(ref, prefix)).map((ref) => ({ ref, level }));
      this.#stack.push({ nodes, digests: new Set(nodes.map(({ ref }) => ref.digest)), at: 0 });
      this.#trim();
      return;
    }
    this.#entries = prefix === undefined ? segment : segment.filter(({ path }) => isWithin(path, prefix));
    this.#at = 0;
    this.#leaf = digest;
  }

  #trim(): void {
    while (this.#stack.length > 0 && this.#stack.at(-1)!.at >= this.#stack.at(-1)!.nodes.length) this.#stack.pop();
  }
}

function mayHold({ first, last }: SegmentRef, prefix: ByteString | undefined): boolean {
  if (prefix === undefined) return true;
  return comparePaths(last, prefix) >= 0 && (comparePaths(first, prefix) <= 0 || isWithin(first, prefix));
}
