import type { Digest } from '../../dataset/digest.ts';
import type { FileEntry, InlineContent } from '../../dataset/entry.ts';
import { CorruptError, InvalidError, UnavailableError } from '../../dataset/errors.ts';
import type { Cache } from '../cache.ts';
import { globMatcher } from '../glob.ts';
import { isFull } from '../object-writer.ts';
import type { LoadedSegment, SegmentReader, StagedSource } from '../segment-reader.ts';
import type { StageMap } from '../stage-map.ts';
import { retrying } from './failures.ts';
import type { Interest } from './quests.ts';

export interface PrefetchOptions {
  /** Of paths: see `globMatcher`. */
  readonly pattern?: string;
  readonly onProgress?: (progress: PrefetchProgress) => void;
  readonly signal?: AbortSignal;
}

/** Distinct objects that are in place; with a pattern, totals are known once all segments have been looked through. */
export interface PrefetchProgress {
  readonly files: number;
  readonly bytes: number;
  readonly totalFiles?: number;
  readonly totalBytes?: number;
}

export interface PrefetchParts {
  readonly cache: Cache;
  readonly segments: SegmentReader;
  /** How long to try for a segment, in milliseconds. */
  readonly patience: number;
  readonly join: (id: Digest, byPiece: boolean) => Interest;
}

/** No further segment of a prefetch is begun while so many of its objects are on their way. */
const PREFETCH_WIDTH = 4096;

/** Brings everything of a registered version, or what lies under a pattern, in the manifest's order. */
export async function prefetch(
  { cache, segments, patience, join }: PrefetchParts,
  { repository, map }: StagedSource,
  { pattern, onProgress, signal }: PrefetchOptions,
): Promise<PrefetchProgress> {
  const matches = pattern === undefined ? undefined : globMatcher(pattern);
  let totals: { totalFiles?: number; totalBytes?: number } = matches
    ? {}
    : { totalFiles: map.objects, totalBytes: map.objectBytes };
  const there = distinct(map);
  let files = 0;
  let bytes = 0;
  const count = (id: Digest, size: number) => {
    if (!there(id)) return;
    files += 1;
    bytes += size;
    onProgress?.({ files, bytes, ...totals });
  };

  const wanted = ({ entries }: LoadedSegment) =>
    entries.filter(
      (entry): entry is FileEntry & { content: Exclude<FileEntry['content'], InlineContent> } =>
        entry.type === 'file' && entry.content.kind !== 'inline' && matches?.(entry.path) !== false,
    );
  const load = (segment: Digest) => retrying(() => segments.load(repository, segment), patience, stop);
  /** Looks through all segments, before most of what they name is fetched. */
  const total = async () => {
    const first = distinct(map);
    let totalFiles = 0;
    let totalBytes = 0;
    for (const segment of map.segments) {
      for (const { content, size } of wanted(await load(segment))) {
        if (!first(content.id)) continue;
        totalFiles += 1;
        totalBytes += size;
      }
    }
    totals = { totalFiles, totalBytes };
  };

  const failures: unknown[] = [];
  const stopping = new AbortController();
  const stop = signal ? AbortSignal.any([signal, stopping.signal]) : stopping.signal;
  // One listener for all that is on its way: a signal's listeners are a list that each new one goes through.
  const leaving = new Set<() => void>();
  let wake = () => {};
  stop.addEventListener('abort', () => {
    for (const leave of leaving) leave();
    leaving.clear();
    wake();
  });
  const bringOne = async (id: Digest, size: number) => {
    let leave: (() => void) | undefined;
    try {
      for (let outcome = 'stream'; outcome === 'stream'; ) {
        const interest = join(id, matches !== undefined);
        leave = interest.leave;
        leaving.add(leave);
        outcome = await interest.quest.outcome;
        // Those who waited went off to stream it; it comes for us all the same.
        if (outcome === 'stream' && leaving.delete(leave)) leave();
        // A version that was never registered has nothing to be found by: that is the caller's mistake.
        if (outcome === 'absent') throw new InvalidError('prefetch needs a registered version');
      }
      count(id, size);
    } catch (error) {
      if (stop.aborted) return;
      failures.push(error);
      if (!(error instanceof CorruptError)) stopping.abort(error);
    } finally {
      if (leave && leaving.delete(leave)) leave();
      wake();
    }
  };
  const untilFewerThan = async (width: number) => {
    while (leaving.size >= width && !stop.aborted) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    stop.throwIfAborted();
  };

  const counting = matches && total();
  // Met at the end.
  counting?.catch(() => {});
  try {
    for (const [at, segment] of map.segments.entries()) {
      const following = map.segments[at + 1];
      const loaded = await load(segment);
      if (following) segments.load(repository, following).catch(() => {});
      for (const { content, size } of wanted(loaded)) {
        if (cache.has(content.id)) count(content.id, size);
        else void bringOne(content.id, size);
      }
      await untilFewerThan(PREFETCH_WIDTH);
    }
    await untilFewerThan(1);
    await counting;
  } catch (error) {
    stopping.abort(error);
    signal?.throwIfAborted();
    if (failures.length === 0) throw error;
  }
  if (failures.length > 0) throw prefetchError(failures, files, totals.totalFiles);
  return { files, bytes, ...totals };
}

/** Tells of each content of a map, the first time it is asked for, that it is the first time. */
function distinct(map: StageMap): (id: Digest) => boolean {
  const seen = new Uint8Array(Math.ceil(map.size / 8));
  return (id) => {
    const position = map.position(id);
    const bit = 1 << (position & 7);
    if (seen[position >>> 3]! & bit) return false;
    seen[position >>> 3]! |= bit;
    return true;
  };
}

function prefetchError(failures: readonly unknown[], files: number, total: number | undefined): unknown {
  const full = failures.find(isFull) as UnavailableError | undefined;
  if (full) {
    const of = total === undefined ? '' : ` of ${total}`;
    return new UnavailableError(`${files}${of} files fetched, no room for the rest: ${full.message}`, {
      cause: full,
      facts: { ...full.facts, files, totalFiles: total },
    });
  }
  const [first] = failures;
  if (failures.length === 1 || !(first instanceof CorruptError)) return first;
  return new CorruptError(`${failures.length} objects are damaged, the first: ${first.message}`, {
    cause: first,
    facts: { ...first.facts, damaged: failures.length },
  });
}
