import type { ByteString } from './byte-string.ts';
import type { Difference } from './diff.ts';
import { type Digest, sha256 } from './digest.ts';
import type { FileEntry } from './entry.ts';
import { comparePaths, nameOf } from './path.ts';

/** A file that is at another path, with the same content. Other metadata may differ. */
export interface Rename {
  readonly kind: 'renamed';
  /** Where it is. */
  readonly path: ByteString;
  /** Where it was. */
  readonly from: ByteString;
  readonly before: FileEntry;
  readonly after: FileEntry;
}

export interface RenameOptions {
  /** Files added and removed, together, that are kept in memory: their paths and content ids. Beyond it, no rename is looked for. */
  readonly limit?: number;
  /** Told that there are more. */
  readonly onLimit?: (limit: number) => void;
}

/** Some tens of megabytes. */
const LIMIT = 200_000;

/** Differences that are kept whole, so that they need not be found again. */
const KEPT = 10_000;

/**
 * Differences in path order, in which a file that was removed and one of the same content that was added are one rename, at the place of its
 * new path. Of several of the same content, those with the same last name belong together, the others in path order. Empty files are
 * none: they are all the same.
 * @param find gives the differences; asked twice where there are many
 */
export async function* withRenames(
  find: () => AsyncIterable<Difference>,
  { limit = LIMIT, onLimit }: RenameOptions = {},
): AsyncGenerator<Difference | Rename> {
  const removed = new Map<Digest, ByteString[]>();
  const added = new Map<Digest, ByteString[]>();
  let kept: Difference[] | undefined = [];
  let files = 0;
  for await (const difference of find()) {
    if (kept !== undefined && kept.push(difference) > KEPT) kept = undefined;
    const moved = movedFile(difference);
    if (moved === undefined) continue;
    if (++files > limit) break;
    const paths = difference.kind === 'added' ? added : removed;
    const id = contentOf(moved);
    const known = paths.get(id);
    if (known === undefined) paths.set(id, [difference.path]);
    else known.push(difference.path);
  }
  if (files > limit) {
    onLimit?.(limit);
    yield* find();
    return;
  }
  const origins = pair(removed, added);
  removed.clear();
  added.clear();
  if (origins.size === 0) {
    yield* kept ?? find();
    return;
  }
  const gone = new Set(origins.values());
  /** What was removed may come after what was added of it: then it is read before. */
  const before = await originsOf(kept ?? find(), gone);
  for await (const difference of kept ?? find()) {
    const { kind, path, after } = difference;
    if (kind === 'removed' && gone.has(path)) continue;
    const from = kind === 'added' ? origins.get(path) : undefined;
    if (from === undefined) yield difference;
    else yield { kind: 'renamed', path, from, before: before.get(from)!, after: after as FileEntry };
  }
}

async function originsOf(
  differences: AsyncIterable<Difference> | Iterable<Difference>,
  gone: ReadonlySet<ByteString>,
): Promise<Map<ByteString, FileEntry>> {
  const found = new Map<ByteString, FileEntry>();
  for await (const { kind, path, before } of differences)
    if (kind === 'removed' && gone.has(path)) found.set(path, before as FileEntry);
  return found;
}

/** The file that a difference adds or removes, if it may be the one that another one removes or adds. */
function movedFile({ kind, before, after }: Difference): FileEntry | undefined {
  const entry = kind === 'added' ? after : kind === 'removed' ? before : undefined;
  return entry?.type === 'file' && entry.size > 0 ? entry : undefined;
}

/** New path to old path. */
function pair(
  removed: ReadonlyMap<Digest, readonly ByteString[]>,
  added: ReadonlyMap<Digest, readonly ByteString[]>,
): Map<ByteString, ByteString> {
  const origins = new Map<ByteString, ByteString>();
  for (const [id, paths] of added) {
    const left = new Set(removed.get(id));
    const byName = new Map([...left].reverse().map((path) => [nameOf(path), path]));
    const others: ByteString[] = [];
    for (const path of paths) {
      const from = byName.get(nameOf(path));
      if (from === undefined || !left.delete(from)) others.push(path);
      else origins.set(path, from);
    }
    const rest = [...left].sort(comparePaths);
    for (const [i, path] of others.entries()) if (i < rest.length) origins.set(path, rest[i]!);
  }
  return origins;
}

function contentOf({ content }: FileEntry): Digest {
  return content.kind === 'inline' ? sha256(content.bytes) : content.id;
}
