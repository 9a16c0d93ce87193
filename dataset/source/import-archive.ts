import { type ChunkSink, type CommitOptions, type CommitResult, commitChanges } from '../commit.ts';
import { differenceOf } from '../diff.ts';
import type { Entry } from '../entry.ts';
import { type EntryChange, readEntries } from '../manifest.ts';
import { ROOT_PATH } from '../path.ts';
import { readBranch } from '../refs.ts';
import type { Repository } from '../repository.ts';
import { readVersion } from '../version.ts';
import { ArchiveEntries, type SkippedMembers } from './archive-entries.ts';
import { changesBetween } from './changes-between.ts';
import { nothing } from './import-listing.ts';
import { Ingest } from './ingest.ts';
import { decompressed } from './tar/decompress.ts';
import { readTar } from './tar/read-tar.ts';

export interface ArchiveImportOptions extends Pick<CommitOptions, 'meta' | 'message' | 'author' | 'from' | 'signal'> {
  readonly repository: Repository;
  readonly dataset: string;
  readonly branch: string;
  /** A tar archive, as it is or compressed with gzip or zstd. Read once, from its beginning to its end. */
  readonly archive: AsyncIterable<Uint8Array>;
  /** The archive as messages call it: a file's name. */
  readonly name: string;
  readonly onProgress?: (progress: ArchiveProgress) => void;
  /** Told of what the version does not have, in words for people. */
  readonly onWarning?: (message: string) => void;
  /** For what sorting needs; the system's folder for temporary files if not said. */
  readonly temporary?: string;
}

export interface ArchiveProgress {
  readonly phase: string;
  /** Members so far. */
  readonly seen: number;
  readonly files: number;
  readonly bytes: number;
}

export interface ArchiveImportResult extends CommitResult {
  readonly seen: number;
  readonly skipped: SkippedMembers;
}

/**
 * Makes a version of a tar archive's members, which may come in any order. Their bytes are stored as they come; the entries are sorted. Memory does
 * not grow with the archive, but for its hard links.
 *
 * Nothing is published of an archive that is damaged or cut short (CorruptError), or that has a member which leads out of the tree
 * (InvalidError that names it).
 */
export async function importArchive(options: ArchiveImportOptions): Promise<ArchiveImportResult> {
  const { repository, dataset, branch, archive, name, signal, onProgress, onWarning, temporary } = options;
  const ref = await readBranch(repository, dataset, branch);
  const base = ref && (await readVersion(repository, ref.version, signal));
  await using stack = new AsyncDisposableStack();
  let entries: ArchiveEntries | undefined;

  async function* changes(sink: ChunkSink): AsyncGenerator<EntryChange[]> {
    const ingest = stack.use(new Ingest(sink));
    const taken = stack.use(new ArchiveEntries(ingest, { directory: temporary }));
    entries = taken;
    for await (const member of readTar(decompressed(archive, name), name)) {
      signal?.throwIfAborted();
      await taken.take(member, ROOT_PATH);
      const { seen, files, bytes } = taken;
      onProgress?.({ phase: 'reading', seen, files, bytes });
    }
    await taken.finish();
    await sink.flush();
    const before = base ? readEntries(repository, base.root, { signal }) : nothing();
    yield* entryChanges(taken.tree(), before);
  }
  const { message, author, meta, from } = options;
  const commit = { repository, dataset, branch, message, author, meta, from, signal };
  const result = await commitChanges({ ...commit, base, head: { ref }, changes });
  const { seen, files, bytes, skipped } = entries!;
  warnOfSkipped(skipped, onWarning);
  return { ...result, read: { files, bytes }, seen, skipped };
}

/** Changes that make a tree of a base. */
export async function* entryChanges(
  tree: Iterable<readonly Entry[]> | AsyncIterable<readonly Entry[]>,
  base: AsyncIterable<readonly Entry[]>,
  stays?: (path: Entry['path']) => boolean,
): AsyncGenerator<EntryChange[]> {
  async function* batches(): AsyncGenerator<readonly Entry[]> {
    yield* tree;
  }
  const isSame = (entry: Entry, before: Entry) => differenceOf(before, entry) === undefined;
  for await (const steps of changesBetween<Entry, Entry>(batches(), base, { isSame, stays }))
    yield steps.map((step) => (step.kind === 'put' ? { kind: 'put', entry: step.value } : step));
}

export function warnOfSkipped({ devices, fifos }: SkippedMembers, onWarning?: (message: string) => void): void {
  const words = [
    ...(devices > 0 ? [`${devices} device${devices === 1 ? '' : 's'}`] : []),
    ...(fifos > 0 ? [`${fifos} FIFO${fifos === 1 ? '' : 's'}`] : []),
  ];
  if (words.length > 0) onWarning?.(`left out, as a version cannot hold them: ${words.join(', ')}`);
}
