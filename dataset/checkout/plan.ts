import type { ByteString } from '../byte-string.ts';
import type { Digest } from '../digest.ts';
import type { DirectoryEntry, Entry, FileEntry, SymlinkEntry } from '../entry.ts';
import { CorruptError } from '../errors.ts';
import type { ChunkLocation, SegmentLocations } from '../location.ts';
import { readLocations } from '../location.ts';
import { readSegment, readSegments } from '../manifest.ts';
import { mapAhead } from '../map-ahead.ts';
import { isWithin } from '../path.ts';
import type { Repository } from '../repository.ts';

/** A stretch of a tree that is written together: its chunks are read in the order in which they lie in packs. */
export interface Stretch {
  /** In path order: a directory comes before what is in it. */
  readonly directories: readonly DirectoryEntry[];
  /** Symbolic links, and files whose bytes the manifest has. */
  readonly plain: readonly (FileEntry | SymlinkEntry)[];
  /** Files of several parts. */
  readonly composed: readonly FileEntry[];
  /** Files that lie in a bucket of their own. */
  readonly inPlace: readonly FileEntry[];
  /** Further names of files that were written before. */
  readonly links: readonly { readonly path: ByteString; readonly target: ByteString }[];
  readonly packs: ReadonlyMap<Digest, readonly PlacedChunk[]>;
  /** Directories that are complete once this stretch is: what is in one comes before it. */
  readonly complete: readonly DirectoryEntry[];
  readonly entries: number;
}

/** A chunk that is read once, and what it is for. */
export interface PlacedChunk {
  readonly location: ChunkLocation;
  /** Files that are this chunk. */
  readonly files: FileEntry[];
  /** Places in files of several parts. */
  readonly parts: { readonly file: FileEntry; readonly at: number }[];
}

/** Entries of a stretch, and chunks: what bounds memory. */
const ENTRIES = 16_384;
const CHUNKS = 32_768;
const LEAVES_AHEAD = 8;

/** Cuts a tree into stretches, in path order. */
export async function* planStretches(
  repository: Repository,
  root: Digest,
  signal: AbortSignal | undefined,
): AsyncGenerator<Stretch> {
  /** Directories that entries may still come in, outermost first. */
  const open: DirectoryEntry[] = [];
  /** First names of files with several, by link group. */
  const firsts = new Map<ByteString, ByteString>();
  let stretch = new StretchBuilder();
  const leaves = mapAhead(readSegments(repository, root, { signal }), LEAVES_AHEAD, async ({ digest }) => {
    const entries = await readSegment(repository, digest, signal);
    return { digest, entries, locations: await readLocations(repository, digest, { entries, signal }) };
  });
  for await (const { digest, entries, locations } of leaves) {
    for (const entry of entries) {
      while (open.length > 0 && !isWithin(entry.path, open.at(-1)!.path)) stretch.complete.push(open.pop()!);
      if (entry.type === 'directory') open.push(entry);
      stretch.add(entry, digest, locations, firsts);
    }
    if (stretch.entries < ENTRIES && stretch.chunks < CHUNKS) continue;
    yield stretch;
    stretch = new StretchBuilder();
  }
  while (open.length > 0) stretch.complete.push(open.pop()!);
  yield stretch;
}

class StretchBuilder implements Stretch {
  readonly directories: DirectoryEntry[] = [];
  readonly plain: (FileEntry | SymlinkEntry)[] = [];
  readonly composed: FileEntry[] = [];
  readonly inPlace: FileEntry[] = [];
  readonly links: { path: ByteString; target: ByteString }[] = [];
  readonly packs = new Map<Digest, PlacedChunk[]>();
  readonly complete: DirectoryEntry[] = [];
  readonly #placed = new Map<Digest, PlacedChunk>();
  entries = 0;

  get chunks(): number {
    return this.#placed.size;
  }

  add(entry: Entry, leaf: Digest, locations: SegmentLocations, firsts: Map<ByteString, ByteString>): void {
    this.entries++;
    if (entry.type === 'directory') this.directories.push(entry);
    else if (entry.type === 'symlink') this.plain.push(entry);
    else this.#addFile(entry, leaf, locations, firsts);
  }

  #addFile(file: FileEntry, leaf: Digest, locations: SegmentLocations, firsts: Map<ByteString, ByteString>): void {
    const { content, link, path } = file;
    if (link !== undefined) {
      const target = firsts.get(link);
      if (target !== undefined) {
        this.links.push({ path, target });
        return;
      }
      firsts.set(link, path);
    }
    if (content.kind === 'inline') this.plain.push(file);
    else if (content.kind === 'chunk') this.#place(content.id, leaf, locations).files.push(file);
    else if (content.kind === 'chunks') {
      this.composed.push(file);
      let at = 0;
      for (const { chunk, length } of content.parts) {
        if (chunk !== undefined) this.#place(chunk, leaf, locations).parts.push({ file, at });
        at += length;
      }
    } else this.inPlace.push(file);
  }

  #place(id: Digest, leaf: Digest, locations: SegmentLocations): PlacedChunk {
    const known = this.#placed.get(id);
    if (known !== undefined) return known;
    const location = locations.get(id);
    if (location === undefined)
      throw new CorruptError(`the locations of segment ${leaf} lack chunk ${id}`, {
        facts: { segment: leaf, chunk: id },
      });
    const placed: PlacedChunk = { location, files: [], parts: [] };
    this.#placed.set(id, placed);
    const pack = this.packs.get(location.pack);
    if (pack) pack.push(placed);
    else this.packs.set(location.pack, [placed]);
    return placed;
  }
}
