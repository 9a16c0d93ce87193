import { giveMemoryBack } from '../../system/calls/memory.ts';
import type { ByteString } from '../byte-string.ts';
import type { Digest } from '../digest.ts';
import type { Entry } from '../entry.ts';
import { chunksOf } from '../format/chunk-list.ts';
import type { SegmentRef } from '../format/index-node.ts';
import { comparePaths, isWithin } from '../path.ts';
import type { Repository } from '../repository.ts';
import { ChangeCursor, type EntryChange, pathOfChange } from './change-cursor.ts';
import { ReadAhead } from './read-ahead.ts';
import { type BaseLeaf, type ManifestSink, SegmentWriter } from './segment-writer.ts';
import { isIndex, readAnySegment, refOf, type Segment } from './segments.ts';
import { type BuiltSegment, TreeBuilder } from './tree-builder.ts';

export interface EditedManifest {
  readonly root: Digest;
  readonly entries: number;
  /** The sum of the files' sizes. */
  readonly bytes: number;
  /** Segments stored that the repository did not have, and the bytes of their objects. */
  readonly newSegments: number;
  readonly newSegmentBytes: number;
}

/** Segments of the base that were read and not taken over whole: remembered for as long as the same may come out again. */
const REMEMBERED = 4096;

/** Changes that are fetched before they are needed, so that what they touch can be read ahead. */
const CHANGES_AHEAD = 1024;

/**
 * Makes the manifest of `base` with `changes`, or of `changes` alone where there is no base, and stores its new segments.
 *
 * Changes are in path order, none twice but a delete before a put of its path. A put replaces the entry at its path; unless it
 * is a directory, it takes the place of all that was below it too. A delete of what is not there changes nothing.
 *
 * The root depends on the resulting tree only. Segments of the base that no change touches are taken over by reference, whole
 * index segments unread; so the cost is that of the change. Memory does not grow with either tree.
 *
 * An InvalidError tells of an entry that cannot be, or of one whose directory is missing.
 */
export async function editManifest(
  repository: Repository,
  base: Digest | undefined,
  changes: AsyncIterable<readonly EntryChange[]>,
  sink?: ManifestSink,
  options: { readonly signal?: AbortSignal } = {},
): Promise<EditedManifest> {
  giveMemoryBack();
  const writer = new SegmentWriter(repository, sink);
  const edit = new Edit(repository, base, changes, writer, options.signal);
  try {
    const built = await edit.run();
    await writer.finish();
    return { ...built, newSegments: writer.segments, newSegmentBytes: writer.bytes };
  } finally {
    await edit.close();
    await writer.stop();
  }
}

class Edit {
  readonly #repository: Repository;
  readonly #base: Digest | undefined;
  readonly #ahead: ReadAhead;
  readonly #changes: ChangeCursor;
  readonly #writer: SegmentWriter;
  readonly #signal: AbortSignal | undefined;
  readonly #builder: TreeBuilder;
  /** The subtree of the base that the last delete, or put of no directory, took away. */
  #removed: ByteString | undefined;
  #lastPut: ByteString | undefined;
  /** Segments of the base that were read. */
  readonly #read = new Set<Digest>();
  /** Leaves of the base whose entries may be in the leaf that is being made. */
  #from: { readonly digest: Digest; readonly entries: readonly Entry[] }[] = [];
  /** Leaves that changes told of, whose entries may be in it too. */
  readonly #told = new Set<Digest>();

  constructor(
    repository: Repository,
    base: Digest | undefined,
    changes: AsyncIterable<readonly EntryChange[]>,
    writer: SegmentWriter,
    signal: AbortSignal | undefined,
  ) {
    this.#repository = repository;
    this.#base = base;
    this.#ahead = new ReadAhead(repository, signal);
    this.#changes = new ChangeCursor(
      changes,
      base === undefined ? {} : { ahead: CHANGES_AHEAD, onFetched: (batch) => this.#ahead.plan(batch) },
    );
    this.#writer = writer;
    this.#signal = signal;
    this.#builder = new TreeBuilder((segment) => this.#complete(segment));
  }

  async run(): Promise<{ readonly root: Digest; readonly entries: number; readonly bytes: number }> {
    const base = this.#base;
    await this.#changes.load();
    if (base !== undefined) {
      const segment = await readAnySegment(this.#repository, base, this.#signal);
      this.#ahead.start(segment);
      this.#remember(base);
      const ref = refOf(base, segment);
      if (ref !== undefined) await this.#takeSegment(ref, segment, true);
    }
    while (this.#changes.current !== undefined) await this.#applyOne();
    return this.#builder.finish();
  }

  async close(): Promise<void> {
    this.#ahead.close();
    await this.#changes.close();
  }

  /** @param isLast whether nothing of the base comes after it: then it may have ended because its tree did */
  async #take(ref: SegmentRef, level: number, isLast: boolean): Promise<void> {
    // A delete at its first path may take it away whole.
    for (let change = this.#changes.current; change !== undefined; change = this.#changes.current) {
      const order = comparePaths(pathOfChange(change), ref.first);
      if (order > 0 || (order === 0 && change.kind === 'put')) break;
      await this.#applyOne();
    }
    if (this.#isRemoved(ref.last) && this.#isRemoved(ref.first)) return;
    const change = this.#changes.current;
    const isUnchanged =
      !this.#isRemoved(ref.first) &&
      this.#lastPut !== ref.first &&
      (change === undefined || comparePaths(pathOfChange(change), ref.last) > 0);
    if (isUnchanged && !isLast && this.#builder.startsAt(level)) {
      this.#builder.addSegment(level, ref);
      return;
    }
    const segment = await this.#ahead.take(ref, level);
    this.#remember(ref.digest);
    await this.#takeSegment(ref, segment, isLast);
  }

  async #takeSegment(ref: SegmentRef, segment: Segment, isLast: boolean): Promise<void> {
    this.#signal?.throwIfAborted();
    if (isIndex(segment)) {
      const { children, level } = segment;
      for (let i = 0; i < children.length; i++) {
        await this.#take(children[i]!, level - 1, isLast && i === children.length - 1);
      }
    } else await this.#takeEntries(ref.digest, segment);
  }

  async #takeEntries(digest: Digest, entries: readonly Entry[]): Promise<void> {
    for (const entry of entries) {
      for (let change = this.#changes.current; change !== undefined; change = this.#changes.current) {
        if (comparePaths(pathOfChange(change), entry.path) > 0) break;
        await this.#applyOne();
      }
      if (this.#isRemoved(entry.path) || this.#lastPut === entry.path) continue;
      if (this.#from.at(-1)?.digest !== digest) this.#from.push({ digest, entries });
      this.#builder.add(entry, true);
      if (this.#writer.isFull) await this.#writer.ready();
    }
  }

  async #applyOne(): Promise<void> {
    const change = this.#changes.current!;
    if (change.kind === 'delete') this.#remove(change.path);
    else {
      const { entry, leaf } = change;
      if (leaf !== undefined) this.#told.add(leaf);
      this.#builder.add(entry);
      this.#lastPut = entry.path;
      if (entry.type !== 'directory') this.#remove(entry.path);
    }
    this.#changes.advance();
    if (this.#writer.isFull) await this.#writer.ready();
    if (this.#changes.needsLoad) {
      this.#signal?.throwIfAborted();
      await this.#changes.load();
    }
  }

  #remove(path: ByteString): void {
    if (!this.#isRemoved(path)) this.#removed = path;
  }

  #isRemoved(path: ByteString): boolean {
    return this.#removed !== undefined && isWithin(path, this.#removed);
  }

  #complete(segment: BuiltSegment): void {
    const from: BaseLeaf[] = segment.chunks.length === 0 ? [] : leavesWithChunks(this.#from);
    if (segment.chunks.length > 0) for (const digest of this.#told) from.push({ digest });
    // A leaf that a change told of is stored, as are those of the base.
    const isStored = this.#read.has(segment.digest) || this.#told.has(segment.digest);
    if (segment.level === 0) {
      this.#from = [];
      this.#told.clear();
    }
    if (!isStored) this.#writer.submit(segment, from);
  }

  #remember(digest: Digest): void {
    this.#read.add(digest);
    if (this.#read.size > REMEMBERED) for (const oldest of this.#read) if (this.#read.delete(oldest)) break;
  }
}

function leavesWithChunks(
  leaves: readonly { readonly digest: Digest; readonly entries: readonly Entry[] }[],
): BaseLeaf[] {
  return leaves
    .map(({ digest, entries }) => ({ digest, chunks: chunksOf(entries) }))
    .filter(({ chunks }) => chunks.length > 0);
}
