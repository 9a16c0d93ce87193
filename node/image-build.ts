import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { loadStageMap, type StageMap } from '../cache/stage-map.ts';
import { StageMapBuilder } from '../cache/stage-map-builder.ts';
import { type Digest, digestToBytes } from '../dataset/digest.ts';
import type { Entry } from '../dataset/entry.ts';
import { CorruptError, isErrno } from '../dataset/errors.ts';
import { readSegment, readSegments } from '../dataset/manifest.ts';
import type { Repository } from '../dataset/repository.ts';
import { writeImage } from '../mount/erofs/image.ts';

/** What a node makes of a manifest, once: the tree as an EROFS image, and where its contents stand in the manifest. */
export interface VersionImage {
  readonly file: string;
  readonly map: StageMap;
}

/** Segments read ahead of the one that is being written. */
const READ_AHEAD = 8;

/**
 * The image and the stage map of the manifest with this root, from `directory` or, where one is missing or damaged, built anew in
 * one pass over the manifest.
 */
export async function ensureImage(
  directory: string,
  repository: Repository,
  root: Digest,
  signal?: AbortSignal,
): Promise<VersionImage> {
  const file = join(directory, `${root}.erofs`);
  const mapFile = join(directory, `${root}.map`);
  const map = existsSync(file) ? readMap(mapFile, root) : undefined;
  if (map !== undefined) return { file, map };

  using builder = new StageMapBuilder(mapFile);
  // The image first: a map is only believed beside one.
  await writeImage({
    file,
    entries: entriesInto(builder, repository, root),
    volumeName: root.slice(0, 12),
    uuid: digestToBytes(root).subarray(0, 16),
    signal,
  });
  builder.finish(root);
  return { file, map: loadStageMap(mapFile, root) };
}

function readMap(file: string, root: Digest): StageMap | undefined {
  try {
    return loadStageMap(file, root);
  } catch (error) {
    if (isErrno(error, 'ENOENT') || error instanceof CorruptError) return undefined;
    throw error;
  }
}

/** All entries in order, each segment told to the map as it goes by. */
async function* entriesInto(
  builder: StageMapBuilder,
  repository: Repository,
  root: Digest,
): AsyncGenerator<readonly Entry[]> {
  const ahead: { digest: Digest; entries: Promise<readonly Entry[]> }[] = [];
  const next = async () => {
    const { digest, entries } = ahead.shift()!;
    const batch = await entries;
    builder.add(digest, batch);
    return batch;
  };
  try {
    for await (const { digest } of readSegments(repository, root)) {
      const entries = readSegment(repository, digest);
      // A failure is met when its turn comes; until then it must not count as unhandled.
      entries.catch(() => {});
      ahead.push({ digest, entries });
      if (ahead.length >= READ_AHEAD) yield await next();
    }
    while (ahead.length > 0) yield await next();
  } finally {
    await Promise.allSettled(ahead.map(({ entries }) => entries));
  }
}
