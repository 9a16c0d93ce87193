import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { MessageChannel } from 'node:worker_threads';
import { serveBuckets } from '../cache/bucket-port.ts';
import { loadStageMap, type StageMap } from '../cache/stage-map.ts';
import type { Digest } from '../dataset/digest.ts';
import { CorruptError, isErrno, UnavailableError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import { fromThreadError } from '../dataset/threads/thread-error.ts';
import { readVersion } from '../dataset/version.ts';
import { giveMemoryBack } from '../system/calls/memory.ts';
import { startThread } from '../system/thread.ts';
import { buildImage } from './image-files.ts';
import type { ImageAnswer, ImageOrder } from './image-thread.ts';

/** What a node makes of a manifest, once: the tree as an EROFS image, and where its contents stand in the manifest. */
export interface VersionImage {
  readonly file: string;
  readonly map: StageMap;
}

/** Trees of up to so many entries are built on the main thread: that takes less time than a thread to start. */
const SMALL = 20_000;

/**
 * The image and the stage map of a version, from `directory` or, where one is missing or damaged, built anew in one pass over the
 * manifest. A large one is built on a thread of its own, whose memory goes with it.
 */
export async function ensureImage(
  directory: string,
  version: { readonly repository: Repository; readonly version: Digest; readonly root: Digest },
  signal?: AbortSignal,
): Promise<VersionImage> {
  const { repository, root } = version;
  const file = join(directory, `${root}.erofs`);
  const mapFile = join(directory, `${root}.map`);
  const map = existsSync(file) ? readStageMap(mapFile, root) : undefined;
  if (map !== undefined) return { file, map };

  const { entries } = await readVersion(repository, version.version, signal);
  if (entries <= SMALL) await buildImage({ repository, root, file, mapFile, signal });
  else await buildOnThread({ repository, root, file, mapFile, signal });
  return { file, map: loadStageMap(mapFile, root) };
}

/** Undefined where there is none, or one that is damaged or of an older format. */
export function readStageMap(file: string, root: Digest): StageMap | undefined {
  try {
    return loadStageMap(file, root);
  } catch (error) {
    if (isErrno(error, 'ENOENT') || error instanceof CorruptError) return undefined;
    throw error;
  }
}

interface Build {
  readonly repository: Repository;
  readonly root: Digest;
  readonly file: string;
  readonly mapFile: string;
  readonly signal: AbortSignal | undefined;
}

async function buildOnThread({ repository, root, file, mapFile, signal }: Build): Promise<void> {
  signal?.throwIfAborted();
  giveMemoryBack();
  const { port1, port2 } = new MessageChannel();
  const stopping = new AbortController();
  const order: ImageOrder = {
    repository: { id: repository.id, location: repository.location },
    root,
    file,
    mapFile,
    buckets: port2,
  };
  const thread = startThread(new URL('./image-thread.ts', import.meta.url), {
    workerData: order,
    transferList: [port2],
    resourceLimits: { maxYoungGenerationSizeMb: 8 },
  });
  // All that it reads comes through this thread, with its retries and neighbours: failing that is how it is stopped, too.
  serveBuckets(
    port1,
    new Map([[0, { bucket: repository.bucket, signal: stopping.signal, onRead: () => {}, onFetched: () => {} }]]),
  );
  const stop = () => stopping.abort(signal!.reason);
  signal?.addEventListener('abort', stop, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      let failure: Error | undefined = new UnavailableError(`the thread that makes the image of ${root} ended early`);
      thread.on('message', ({ error }: ImageAnswer) => {
        failure = error && fromThreadError(error);
      });
      thread.once('error', reject);
      // Its memory is gone when it has ended.
      thread.once('exit', () => (failure === undefined ? resolve() : reject(failure)));
    });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', stop);
    stopping.abort(new UnavailableError('the image is not built any more'));
    port1.close();
  }
}
