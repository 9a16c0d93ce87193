import { StageMapBuilder } from '../cache/stage-map-builder.ts';
import { type Digest, digestToBytes, sha256 } from '../dataset/digest.ts';
import type { Entry } from '../dataset/entry.ts';
import { readSegment, readSegments } from '../dataset/manifest.ts';
import type { Repository } from '../dataset/repository.ts';
import { writeImage } from '../mount/erofs/image.ts';
import { type View, viewName } from '../mount/view.ts';

/** Segments read ahead of the one that is being written. */
const READ_AHEAD = 8;

export interface ImageFiles {
  readonly repository: Repository;
  /** The manifest's. */
  readonly root: Digest;
  /** Owners and permissions that the image shows. */
  readonly view?: View | undefined;
  readonly file: string;
  /** Undefined where there is a stage map already. */
  readonly mapFile: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Makes the image and the stage map of a manifest in one pass over it. */
export async function buildImage({ repository, root, view, file, mapFile, signal }: ImageFiles): Promise<void> {
  using builder = mapFile === undefined ? undefined : new StageMapBuilder(mapFile);
  await writeImage({
    file,
    entries: entriesInto(builder, repository, root),
    volumeName: root.slice(0, 12),
    uuid: uuidOf(root, view),
    view,
    signal,
  });
  builder?.finish(root);
}

/** Another for each view: an inode has another number in each, and overlayfs remembers inodes by both. */
function uuidOf(root: Digest, view: View | undefined): Uint8Array {
  const name = viewName(view);
  return digestToBytes(name === '' ? root : sha256(`${root} ${name}`)).subarray(0, 16);
}

/** All entries in order, each segment told to the map as it goes by. */
async function* entriesInto(
  builder: StageMapBuilder | undefined,
  repository: Repository,
  root: Digest,
): AsyncGenerator<readonly Entry[]> {
  const ahead: { digest: Digest; entries: Promise<readonly Entry[]> }[] = [];
  const next = async () => {
    const { digest, entries } = ahead.shift()!;
    const batch = await entries;
    builder?.add(digest, batch);
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
