import type { ByteString } from './byte-string.ts';
import { openChunkIndex } from './chunk-index.ts';
import { guardPublish, markSweeps, type SweepMark } from './collect/guard.ts';
import type { Digest } from './digest.ts';
import { shortId } from './digest.ts';
import { ConflictError } from './errors.ts';
import { log } from './history.ts';
import { ChunkStore, type StoredTotals } from './import/chunk-store.ts';
import { type Change, readChanges, type StoredChunk } from './import/read-changes.ts';
import type { ImportTask, ImportWorkerData } from './import/worker.ts';
import { type EntryChange, editManifest } from './manifest.ts';
import { deleteBranch, type MoveVia, moveBranch, readBranch, refuseProtected, type StoredRef } from './refs.ts';
import type { Repository } from './repository.ts';
import { Pool } from './threads/pool.ts';
import { type Origin, readVersion, type Version, writeVersion } from './version.ts';

export type { FileIdentity, PendingFile } from './import/pending.ts';
export type { Change, StoredChunk } from './import/read-changes.ts';

export interface CommitOptions {
  readonly repository: Repository;
  readonly dataset: string;
  /** The branch that moves to the version. Without one it gets no name: whoever asked gives it one, or its id is all there is. */
  readonly branch?: string;
  /** What the changes are changes to; undefined for an empty tree. It need not be the branch's head. */
  readonly base: Version | undefined;
  /**
   * In path order; batches of any size. Changed files may still have to be read. A function gives them where bytes come from elsewhere: it
   * stores their chunks, all that a change needs before the last one.
   */
  readonly changes: AsyncIterable<readonly Change[]> | ((sink: ChunkSink) => AsyncIterable<readonly Change[]>);
  /** The branch's head as it must still be when the version is published; undefined: there is no such branch. Read now if not said. */
  readonly head?: { readonly ref: StoredRef | undefined };
  /** The head alone if not said. Where there is no branch, the first is what an unchanged tree is told by. */
  readonly parents?: readonly Digest[];
  readonly author: string;
  readonly message: string;
  readonly meta?: Readonly<Record<string, string>>;
  /** The versions that it is made from, for its lineage: they are no parents. */
  readonly from?: readonly Origin[];
  /** How the branch moves: a protected one only by `merge`. `commit` if not said. */
  readonly via?: MoveVia;
  /** Make a version also of the very tree that the head has: a merge that keeps all of it says that it was one. */
  readonly always?: boolean;
  /** What an unchanged tree is told by, instead of the head or the first parent: a version that was saved before. */
  readonly same?: Version;
  /** Told of each batch of changes once the files among them are read, in path order. */
  readonly onChanges?: (changes: readonly EntryChange[]) => void;
  /** What `markSweeps` gave before `base` was read (collect/guard.ts); asked for if not said. */
  readonly since?: SweepMark;
  /** Threads that read files; made for this commit if not said, where there is something to read. */
  readonly pool?: Pool<ImportTask, unknown>;
  readonly onProgress?: (progress: CommitProgress) => void;
  /** Told of files that went before they were read; the version does not have them. */
  readonly onVanished?: (path: ByteString) => void;
  readonly signal?: AbortSignal;
}

/** Stores chunks for a commit. */
export interface ChunkSink {
  /** Stores a chunk if it is not stored yet, as `ReadChangesOptions.store` does: one after the other. */
  store(chunk: StoredChunk): Promise<void> | undefined;
  /** Makes all of them durable. */
  flush(): Promise<void>;
}

export interface CommitProgress {
  readonly phase: string;
  /** Read so far. */
  readonly files: number;
  readonly bytes: number;
}

export interface CommitResult {
  /** `unchanged`: the branch's head, the first parent, or `same` has this very tree already; no version was written. */
  readonly outcome: 'created' | 'unchanged';
  readonly version: Version;
  /** Files read, and their bytes. */
  readonly read: { readonly files: number; readonly bytes: number };
  readonly stored: StoredTotals & { readonly segments: number; readonly segmentBytes: number };
}

/**
 * Stores a version: `base` with `changes`. First packs, then locations, segments, the version, and the branch by compare-and-swap: a crash
 * at any point leaves the branch as it was, and objects that nothing names.
 *
 * A ConflictError where the branch moved meanwhile; an error that names the file where one cannot be read.
 */
export async function commitChanges(options: CommitOptions): Promise<CommitResult> {
  const { repository, dataset, branch, base, author, message, meta = {}, from, via, signal, onProgress } = options;
  const ref = options.head || branch === undefined ? options.head?.ref : await readBranch(repository, dataset, branch);
  // Before hours of reading, not after.
  if (branch !== undefined) refuseProtected(dataset, branch, ref, via);
  const before = branch === undefined ? options.parents?.[0] : ref?.version;
  const head = options.same ?? (before && (base?.id === before ? base : await readVersion(repository, before, signal)));
  const read = { files: 0, bytes: 0 };
  const nothing = { chunks: 0, bytes: 0, packs: 0, packBytes: 0, segments: 0, segmentBytes: 0 };

  await using stack = new AsyncDisposableStack();
  let opened: ChunkStore | undefined;
  const chunkStore = () => {
    opened ??= new ChunkStore(repository, stack.use(openChunkIndex(repository)), base !== undefined, signal);
    return opened;
  };
  let { since } = options;
  let { changes } = options;
  if (typeof changes === 'function') {
    since ??= await markSweeps(repository, signal);
    changes = changes({ store: (chunk) => chunkStore().store(chunk), flush: () => chunkStore().flush() });
  }
  const batches = changes[Symbol.asyncIterator]();
  const first = await firstBatch(batches);
  const isSame = (root: Digest | undefined) => options.always !== true && head !== undefined && head.root === root;
  if (first === undefined && isSame(base?.root) && head !== undefined)
    return { outcome: 'unchanged', version: head, read, stored: nothing };

  since ??= await markSweeps(repository, signal);
  let started = options.pool;
  const pool = () => {
    started ??= stack.use(readingPool());
    return started;
  };
  const chunks = chunkStore();

  async function* resolved(): AsyncGenerator<EntryChange[]> {
    const changes = readChanges(rest(first, batches), {
      pool,
      signal,
      store: (chunk) => chunks.store(chunk),
      onRead(files, bytes) {
        read.files += files;
        read.bytes += bytes;
        onProgress?.({ phase: 'reading', ...read });
      },
      onVanished: options.onVanished,
    });
    for await (const batch of changes) {
      options.onChanges?.(batch);
      yield batch;
    }
    onProgress?.({ phase: 'writing', ...read });
    await chunks.flush();
  }
  const edited = await editManifest(repository, base?.root, resolved(), chunks, { signal });
  const stored = { ...chunks.totals, segments: edited.newSegments, segmentBytes: edited.newSegmentBytes };
  if (isSame(edited.root) && head) return { outcome: 'unchanged', version: head, read, stored };

  const { root, entries, bytes } = edited;
  const parents = [...(options.parents ?? (ref ? [ref.version] : []))];
  const fields = { root, parents, author, message, meta: { ...meta }, ...(from && { from }), entries, bytes };
  let version: Version | undefined;
  let moved: StoredRef | undefined;
  const publish = async () => {
    version = await writeVersion(repository, fields);
    signal?.throwIfAborted();
    if (branch === undefined) return;
    const expect = ref ?? 'absent';
    try {
      moved = await moveBranch(repository, dataset, branch, { expect, version: version.id, via, isGuarded: true });
    } catch (error) {
      if (!isUncertain(error) || !(await isInHistory(repository, dataset, branch, version.id, signal))) throw error;
    }
  };
  const undo = async () => {
    if (moved !== undefined && branch !== undefined) await takeBack(repository, dataset, branch, moved, ref);
  };
  try {
    // The branch's head stays as long as it is the head: it is only moved from there.
    const others = parents.filter((id) => id !== ref?.version).map((id) => ({ version: id }));
    await guardPublish(repository, [{ root }, ...others], publish, { since, undo, signal });
  } catch (error) {
    if (!(error instanceof ConflictError) || version === undefined) throw error;
    throw new ConflictError(
      `branch '${branch}' of dataset '${dataset}' was moved by someone else while this version was made; run the same command again to add ` +
        `it on top of theirs (what was stored need not be stored again), or keep it as it is: it is version ${shortId(version.id)}`,
      { cause: error, facts: { ...error.facts, dataset, branch, version: version.id } },
    );
  }
  return { outcome: 'created', version: version!, read, stored };
}

/** How far back a version is looked for of which it is not known whether the branch ever came to it. */
const RECENT_VERSIONS = 1000;

/** Whether the branch may have moved although it was found moved by others: the store's answer to the move was lost, and they came after. */
function isUncertain(error: unknown): boolean {
  const { cause } = error as ConflictError;
  return error instanceof ConflictError && cause instanceof ConflictError && cause.facts.uncertain === true;
}

async function isInHistory(
  repository: Repository,
  dataset: string,
  branch: string,
  version: Digest,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const head = await readBranch(repository, dataset, branch);
  if (head === undefined) return false;
  let looked = 0;
  for await (const { id } of log(repository, head.version, signal)) {
    if (id === version) return true;
    looked += 1;
    if (looked === RECENT_VERSIONS) return false;
  }
  return false;
}

/** Gives a branch back what it had. */
async function takeBack(
  repository: Repository,
  dataset: string,
  branch: string,
  moved: StoredRef,
  before: StoredRef | undefined,
): Promise<void> {
  if (before === undefined) await deleteBranch(repository, dataset, branch, { expect: moved.etag });
  else
    await moveBranch(repository, dataset, branch, {
      expect: moved,
      version: before.version,
      via: 'force',
      isGuarded: true,
    });
}

/** Threads that read files for commits, and do nothing else. */
export function readingPool(): Pool<ImportTask, unknown> {
  const data: ImportWorkerData = { scan: undefined, kept: undefined };
  return new Pool({ module: new URL('./import/worker.ts', import.meta.url), data });
}

async function firstBatch(batches: AsyncIterator<readonly Change[]>): Promise<readonly Change[] | undefined> {
  for (;;) {
    const { done, value } = await batches.next();
    if (done) return undefined;
    if (value.length > 0) return value;
  }
}

async function* rest(
  first: readonly Change[] | undefined,
  batches: AsyncIterator<readonly Change[]>,
): AsyncGenerator<readonly Change[]> {
  try {
    if (first === undefined) return;
    yield first;
    for (;;) {
      const { done, value } = await batches.next();
      if (done) return;
      yield value;
    }
  } finally {
    await batches.return?.();
  }
}
