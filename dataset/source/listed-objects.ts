import type { ListedObject } from '../bucket/bucket.ts';
import { type ByteString, bytesOf, textOf } from '../byte-string.ts';
import { InvalidError } from '../errors.ts';
import { isWithin, parentOf, pathFault, ROOT_PATH } from '../path.ts';

/** An object of a listing, and the path that it gets. */
export interface ObjectAt {
  readonly path: ByteString;
  /** An empty object whose key ends with '/': what consoles make to show a folder. */
  readonly isFolder: boolean;
  /** An archive whose members are to be below the path. */
  readonly isArchive?: boolean;
  readonly key: string;
  /** In bytes. */
  readonly size: number;
  readonly etag: string;
  readonly version: string | undefined;
  /** In milliseconds since 1970. */
  readonly modified: number;
}

/** Objects that a version does not have, by reason, with the first key of each. */
export class LeftOut {
  readonly #reasons = new Map<string, { count: number; readonly first: string }>();

  add(key: string, reason: string): void {
    const known = this.#reasons.get(reason);
    if (known) known.count++;
    else this.#reasons.set(reason, { count: 1, first: key });
  }

  get total(): number {
    let total = 0;
    for (const { count } of this.#reasons.values()) total += count;
    return total;
  }

  /** A sentence for each reason. */
  *warnings(): Generator<string> {
    for (const [reason, { count, first }] of this.#reasons)
      yield count === 1
        ? `left out the object '${first}': ${reason}`
        : `left out ${count} objects, the first of them '${first}': ${reason}`;
  }
}

const BATCH = 1024;
// biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII is meant
const ASCII = /^[\x00-\x7f]*$/;

/**
 * Paths for the objects of a listing, below its prefix, in the listing's order. Keys that cannot be paths are left out and counted.
 *
 * An InvalidError where the keys are not in byte order: then the store's listing cannot be relied on.
 */
export async function* objectsAt(
  listing: AsyncIterable<ListedObject>,
  prefix: string,
  leftOut: LeftOut,
  signal?: AbortSignal,
): AsyncGenerator<ObjectAt[]> {
  let batch: ObjectAt[] = [];
  let before: ByteString | undefined;
  for await (const { key, size, etag, version, modified } of listing) {
    if (!key.startsWith(prefix)) throw new InvalidError(`the listing of '${prefix}' has the key '${key}'`);
    const rest = key.slice(prefix.length);
    const bytes = ASCII.test(rest) ? (rest as ByteString) : bytesOf(rest);
    if (before !== undefined && bytes <= before)
      throw new InvalidError(
        `the listing gives '${key}' after '${prefix}${textOf(before)}': it is not in the order of the keys' bytes, as S3 promises`,
        { facts: { key } },
      );
    before = bytes;
    const isFolder = bytes.endsWith('/') && size === 0;
    const path = (isFolder ? bytes.slice(0, -1) : bytes) as ByteString;
    // The prefix's own marker.
    if (isFolder && path === '') continue;
    const fault = path === '' ? 'is empty' : pathFault(path);
    if (fault !== undefined) {
      leftOut.add(key, `as a path, it ${fault}`);
      continue;
    }
    batch.push({ path, isFolder, key, size, etag, version, modified: modified.getTime() });
    if (batch.length < BATCH) continue;
    signal?.throwIfAborted();
    yield batch;
    batch = [];
  }
  yield batch;
}

/** A directory that objects lie in, or an object. */
export type Placed =
  | { readonly kind: 'directory'; readonly path: ByteString; readonly modified: number }
  | { readonly kind: 'object'; readonly object: ObjectAt };

/**
 * Adds the directories, the root among them; from objects in path order. A directory's time is that of the first object in it. Where a key is
 * also other keys' folder, the folder stays and the object is left out.
 */
export async function* withDirectories(
  batches: AsyncIterable<readonly ObjectAt[]>,
  leftOut: LeftOut,
): AsyncGenerator<Placed[]> {
  let placed: Placed[] = [];
  /** The directory that was made last, or one in it. */
  let inside: ByteString | undefined;
  /** An object that is not placed before the next is known. */
  let waiting: ObjectAt | undefined;

  const enter = (directory: ByteString, modified: number): void => {
    if (inside !== undefined && isWithin(inside, directory)) return;
    const parent = parentOf(directory);
    if (parent !== undefined) enter(parent, modified);
    placed.push({ kind: 'directory', path: directory, modified });
    inside = directory;
  };
  const place = (object: ObjectAt): void => {
    if (object.isFolder) {
      enter(object.path, object.modified);
      return;
    }
    const parent = parentOf(object.path)!;
    enter(parent, object.modified);
    inside = parent;
    placed.push({ kind: 'object', object });
  };

  for await (const batch of batches) {
    for (const object of batch) {
      if (waiting !== undefined) {
        const isOpened = waiting.isArchive === true || object.isArchive === true;
        if (!waiting.isFolder && !isOpened && isWithin(object.path, waiting.path))
          leftOut.add(waiting.key, 'other keys have it as their folder, and a path is one or the other');
        else if (waiting.isFolder && !isOpened && object.path === waiting.path && !object.isFolder) {
          leftOut.add(object.key, 'other keys have it as their folder, and a path is one or the other');
          continue;
        } else place(waiting);
      }
      waiting = object;
    }
    if (placed.length > 0) yield placed;
    placed = [];
  }
  if (waiting !== undefined) place(waiting);
  // An empty listing is an empty directory.
  if (inside === undefined) placed.push({ kind: 'directory', path: ROOT_PATH, modified: 0 });
  if (placed.length > 0) yield placed;
}
