import type { Digest } from '../dataset/digest.ts';
import type { Content, Entry, InlineContent } from '../dataset/entry.ts';
import { readLocations, type SegmentLocations } from '../dataset/location.ts';
import { readSegment } from '../dataset/manifest.ts';
import type { Repository } from '../dataset/repository.ts';
import type { SourceLimits } from './source-limits.ts';
import type { StageMap } from './stage-map.ts';

/** A version that is staged on this node. */
export interface StagedSource {
  readonly repository: Repository;
  readonly version: Digest;
  /** Of the version's manifest. */
  readonly root: Digest;
  readonly map: StageMap;
  /** Without it, it is fetched as fast as it comes, and tried for as long as any other. */
  readonly limits?: SourceLimits | undefined;
}

/** What has to be brought, and where its chunks are. */
export interface Place {
  readonly repository: Repository;
  /** The staged version where it was found; others may have it too. */
  readonly version: Digest;
  /** The leaf segment of its manifest. */
  readonly segment: Digest;
  readonly content: Exclude<Content, InlineContent>;
  /** In bytes. */
  readonly size: number;
  readonly locations: SegmentLocations;
}

interface SizedContent {
  readonly content: Exclude<Content, InlineContent>;
  readonly size: number;
}

export interface LoadedSegment {
  readonly entries: readonly Entry[];
  readonly contents: ReadonlyMap<Digest, SizedContent>;
  readonly locations: SegmentLocations;
}

/** Segments kept decoded: some 400 entries each. */
const KEPT = 128;

/** Reads segments with their locations, each once for all who ask at a time. */
export class SegmentReader {
  readonly #loaded = new Map<string, Promise<LoadedSegment>>();

  /** @param fresh read anew: a segment never changes, but its locations may have */
  load(repository: Repository, segment: Digest, fresh = false): Promise<LoadedSegment> {
    const key = `${repository.id}/${segment}`;
    const kept = this.#loaded.get(key);
    this.#loaded.delete(key);
    const loaded = kept && !fresh ? kept : loadSegment(repository, segment);
    this.#loaded.set(key, loaded);
    loaded.catch(() => {
      if (this.#loaded.get(key) === loaded) this.#loaded.delete(key);
    });
    if (this.#loaded.size > KEPT) this.#loaded.delete(this.#loaded.keys().next().value!);
    return loaded;
  }

  /** Where to get a content; undefined where none of the sources knows it. */
  async locate(id: Digest, sources: Iterable<StagedSource>, fresh = false): Promise<Place | undefined> {
    for (const { repository, version, map } of sources) {
      for (const segment of map.candidates(id)) {
        const { contents, locations } = await this.load(repository, segment, fresh);
        const found = contents.get(id);
        if (found) return { repository, version, segment, ...found, locations };
      }
    }
    return undefined;
  }
}

async function loadSegment(repository: Repository, segment: Digest): Promise<LoadedSegment> {
  const entries = await readSegment(repository, segment);
  const locations = await readLocations(repository, segment, { entries });
  const contents = new Map<Digest, SizedContent>();
  for (const entry of entries) {
    if (entry.type !== 'file' || entry.content.kind === 'inline') continue;
    const { content, size } = entry;
    contents.set(content.id, { content, size });
  }
  return { entries, contents, locations };
}
