import { StageMapBuilder } from '../cache/stage-map-builder.ts';
import { type Digest, digestToBytes } from '../dataset/digest.ts';
import type { Entry } from '../dataset/entry.ts';
import { readSegment, readSegments } from '../dataset/manifest.ts';
import type { Repository } from '../dataset/repository.ts';
import { writeImage } from '../mount/erofs/image.ts';

/** Segments read ahead of the one that is being written. */
const READ_AHEAD = 8;

export interface ImageFiles {
  readonly repository: Repository;
  /** The manifest's. */
  readonly root: Digest;
  readonly file: string;
  readonly mapFile: string;
  readonly signal?: AbortSignal;
}

/** Makes the image and the stage map of a manifest in one pass over it. */
export async function buildImage({ repository, root, file, mapFile, signal }: ImageFiles): Promise<void> {
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
