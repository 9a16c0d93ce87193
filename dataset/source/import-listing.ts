import type { ListedObject } from '../bucket/bucket.ts';
import { type CommitOptions, type CommitResult, commitChanges } from '../commit.ts';
import type { DirectoryEntry, Entry, FileEntry } from '../entry.ts';
import { sourceContent } from '../format/source.ts';
import { type EntryChange, readEntries } from '../manifest.ts';
import { readBranch } from '../refs.ts';
import type { Repository } from '../repository.ts';
import { readVersion } from '../version.ts';
import { changesBetween } from './changes-between.ts';
import { LeftOut, type ObjectAt, objectsAt, type Placed, withDirectories } from './listed-objects.ts';
import { inPathOrder } from './path-order.ts';
import { recordSource, type SourceRecord } from './sources.ts';

export interface ListingImportOptions extends Pick<CommitOptions, 'meta' | 'message' | 'author' | 'from' | 'signal'> {
  readonly repository: Repository;
  readonly dataset: string;
  readonly branch: string;
  /** The bucket that the entries refer to: its name, and where it is, which the repository records. */
  readonly bucket: SourceRecord;
  /** What all keys begin with, and paths do not have; `train/` or nothing. */
  readonly prefix: string;
  /** In byte order of the keys, as stores list them. */
  readonly listing: AsyncIterable<ListedObject>;
  readonly onProgress?: (progress: ListingProgress) => void;
  /** Told of what the version does not have, in words for people. */
  readonly onWarning?: (message: string) => void;
  /** For the temporary file of what must wait for its place; the system's folder if not said. */
  readonly temporary?: string;
}

export interface ListingProgress {
  readonly phase: string;
  /** Objects listed so far. */
  readonly seen: number;
  readonly files: number;
  readonly bytes: number;
}

export interface ListingImportResult extends CommitResult {
  /** Objects listed. */
  readonly seen: number;
  /** Objects that the version does not have, since their keys cannot be paths. */
  readonly leftOut: number;
}

/** Files of objects belong to root and may be read by all: a bucket keeps no owners and modes. */
const FILE = { mode: 0o644, uid: 0, gid: 0 } as const;
const DIRECTORY = { mode: 0o755, uid: 0, gid: 0 } as const;

/**
 * Makes a version of the objects of a listing, which stay where they are: entries refer to bucket, key, ETag and version id. Nothing is read
 * but the listing. An entry of the branch's head whose object has the same ETag and version id stays as it is, so that importing again stores only the
 * difference.
 */
export async function importListing(options: ListingImportOptions): Promise<ListingImportResult> {
  const { repository, dataset, branch, bucket, prefix, signal, onProgress, onWarning, temporary } = options;
  const ref = await readBranch(repository, dataset, branch);
  const base = ref && (await readVersion(repository, ref.version, signal));
  await recordSource(repository, bucket);
  const leftOut = new LeftOut();
  let seen = 0;
  let bytes = 0;

  async function* counted(): AsyncGenerator<ObjectAt[]> {
    for await (const batch of objectsAt(options.listing, prefix, leftOut, signal)) {
      seen += batch.length;
      for (const { size } of batch) bytes += size;
      onProgress?.({ phase: 'listing', seen, files: seen, bytes });
      yield batch;
    }
  }
  async function* entries(): AsyncGenerator<Entry[]> {
    const ordered = inPathOrder(counted(), { directory: temporary });
    for await (const batch of withDirectories(ordered, leftOut))
      yield batch.map((placed) => entryInPlace(placed, bucket.bucket));
  }
  async function* changes(): AsyncGenerator<EntryChange[]> {
    const before = base ? readEntries(repository, base.root, { signal }) : nothing();
    for await (const steps of changesBetween<Entry, Entry>(entries(), before, { isSame: isUnchanged }))
      yield steps.map((step) => (step.kind === 'put' ? { kind: 'put', entry: step.value } : step));
  }
  const { meta, message, author, from } = options;
  const result = await commitChanges({
    repository,
    dataset,
    branch,
    base,
    head: { ref },
    changes: changes(),
    message,
    author,
    meta,
    from,
    signal,
  });
  for (const warning of leftOut.warnings()) onWarning?.(warning);
  return { ...result, seen: seen + leftOut.total, leftOut: leftOut.total };
}

export async function* nothing(): AsyncGenerator<never[]> {}

/** Metadata of an entry for something that a bucket has. */
export function metadataOfObject(placed: Placed) {
  const path = placed.kind === 'directory' ? placed.path : placed.object.path;
  const modified = placed.kind === 'directory' ? placed.modified : placed.object.modified;
  const mtimeSeconds = Math.floor(modified / 1000);
  const mtimeNanos = (modified - mtimeSeconds * 1000) * 1_000_000;
  return { path, mtimeSeconds, mtimeNanos };
}

export function directoryOfObjects(placed: Placed): DirectoryEntry {
  return { type: 'directory', ...metadataOfObject(placed), ...DIRECTORY };
}

/** What an object's file is, but for its content. */
export function fileOfObject(placed: Placed & { kind: 'object' }): Omit<FileEntry, 'content'> {
  return { type: 'file', ...metadataOfObject(placed), ...FILE, size: placed.object.size };
}

function entryInPlace(placed: Placed, bucket: string): Entry {
  if (placed.kind === 'directory') return directoryOfObjects(placed);
  const { key, etag, version } = placed.object;
  return { ...fileOfObject(placed), content: sourceContent({ bucket, key, etag, version }) };
}

/** A directory stays what it is: a bucket tells nothing of one. */
function isUnchanged(entry: Entry, before: Entry): boolean {
  if (entry.type !== 'file' || before.type !== 'file') return entry.type === before.type;
  return (
    entry.content.kind === 'source' &&
    before.content.kind === 'source' &&
    entry.content.id === before.content.id &&
    entry.size === before.size
  );
}
