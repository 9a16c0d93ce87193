import type { ByteString } from '../byte-string.ts';
import type { Entry, Xattr } from '../entry.ts';

/** Entries as they go to a thread: their metadata as numbers, `FIELDS` for each. */
export interface EntryBatch {
  readonly paths: ByteString[];
  readonly numbers: Float64Array<ArrayBuffer>;
  /** By index; only entries that have any. */
  readonly xattrs: ReadonlyMap<number, readonly Xattr[]>;
}

export const FIELDS = 5;

/** One entry's metadata. */
export interface Metadata {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanos: number;
  readonly xattrs: readonly Xattr[] | undefined;
}

export function batchOf(entries: readonly Entry[]): EntryBatch {
  const numbers = new Float64Array(entries.length * FIELDS);
  const xattrs = new Map<number, readonly Xattr[]>();
  const paths = new Array<ByteString>(entries.length);
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i]!;
    paths[i] = entry.path;
    const at = i * FIELDS;
    numbers[at] = entry.mode;
    numbers[at + 1] = entry.uid;
    numbers[at + 2] = entry.gid;
    numbers[at + 3] = entry.mtimeSeconds;
    numbers[at + 4] = entry.mtimeNanos;
    if (entry.xattrs !== undefined)
      xattrs.set(
        i,
        // In memory of their own: a copy to another thread takes all of the memory that a value lies in.
        entry.xattrs.map(({ name, value }) => ({ name, value: Buffer.from(new Uint8Array(value).buffer) })),
      );
  }
  return { paths, numbers, xattrs };
}

export function metadataAt({ numbers, xattrs }: EntryBatch, index: number): Metadata {
  const at = index * FIELDS;
  return {
    mode: numbers[at]!,
    uid: numbers[at + 1]!,
    gid: numbers[at + 2]!,
    mtimeSeconds: numbers[at + 3]!,
    mtimeNanos: numbers[at + 4]!,
    xattrs: xattrs.get(index),
  };
}
