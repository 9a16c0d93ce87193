import { fork } from 'node:child_process';
import { existsSync, readdirSync, rmSync, statSync, utimesSync } from 'node:fs';
import { getCompileCacheDir } from 'node:module';
import { basename, dirname, join } from 'node:path';
import type { Making } from '../cache/capacity.ts';
import { loadStageMap, type StageMap } from '../cache/stage-map.ts';
import { readObject } from '../dataset/bucket/read-object.ts';
import type { Digest } from '../dataset/digest.ts';
import { CorruptError, isErrno, UnavailableError } from '../dataset/errors.ts';
import type { Repository } from '../dataset/repository.ts';
import { fromThreadError, toThreadError } from '../dataset/threads/thread-error.ts';
import { readVersion } from '../dataset/version.ts';
import { type View, viewName } from '../mount/view.ts';
import type { ImageFiles } from './image-files.ts';
import type { ImageAnswer, ImageOrder } from './image-process.ts';

/** What a node makes of a manifest, once: the tree as an EROFS image, and where its contents stand in the manifest. */
export interface VersionImage {
  readonly file: string;
  readonly map: StageMap;
}

/** Trees of up to so many entries are built here: that takes less time than a process to start. */
const SMALL = 20_000;

/** What image and map take together, in bytes: 207 an entry where names have 20 bytes. */
const ENTRY_BYTES = 256;
const LEAST_BYTES = 64 * 1024;

/** No segment of a manifest is larger, in bytes. */
const READ_LIMIT = 64 * 2 ** 20;

export interface EnsureImageOptions {
  /** Owners and permissions that the image shows. */
  readonly view?: View | undefined;
  /** Takes room for what is made. */
  readonly making?: Making;
  readonly signal?: AbortSignal | undefined;
}

/** What a manifest's image is called, by what it shows: a manifest has one image for each view of it, and one stage map. */
export function imageName(root: Digest, view: View | undefined): string {
  const name = viewName(view);
  return name === '' ? root : `${root}.${name}`;
}

/** Removes the images of a manifest, whatever they show, and its stage map. */
export function removeImages(directory: string, root: Digest): void {
  for (const name of readdirSync(directory)) {
    if (name.startsWith(`${root}.`)) rmSync(join(directory, name), { force: true });
  }
}

/** Images with a view that are kept of one manifest while nobody uses them. */
const KEPT_IMAGES = 8;

/** Notes that an image with a view is used now, and removes those of the same manifest that were not used for the longest, if there are many. */
export function tidyImages(directory: string, root: Digest, name: string, isUsed: (name: string) => boolean): void {
  if (name === root) return;
  const now = new Date();
  utimesSync(join(directory, `${name}.erofs`), now, now);
  const unused = readdirSync(directory)
    .filter((file) => file.startsWith(`${root}.`) && file.endsWith('.erofs') && file !== `${root}.erofs`)
    .filter((file) => file !== `${name}.erofs` && !isUsed(file.slice(0, -'.erofs'.length)))
    .map((file) => join(directory, file));
  if (unused.length <= KEPT_IMAGES) return;
  const ages = unused.map((file) => ({ file, used: statSync(file).mtimeMs })).sort((a, b) => b.used - a.used);
  for (const { file } of ages.slice(KEPT_IMAGES)) rmSync(file);
}

/**
 * The image and the stage map of a version, from `directory` or, where one is missing or damaged, built anew in one pass over the
 * manifest. A large one is built by a process of its own, whose memory goes with it.
 */
export async function ensureImage(
  directory: string,
  version: { readonly repository: Repository; readonly version: Digest; readonly root: Digest },
  { view, making = (_what, _bytes, make) => make(), signal }: EnsureImageOptions = {},
): Promise<VersionImage> {
  const { repository, root } = version;
  const file = join(directory, `${imageName(root, view)}.erofs`);
  const mapFile = join(directory, `${root}.map`);
  const map = readStageMap(mapFile, root);
  if (map !== undefined && existsSync(file)) return { file, map };

  const { entries } = await readVersion(repository, version.version, signal);
  const build: ImageFiles = { repository, root, view, file, mapFile: map === undefined ? mapFile : undefined, signal };
  await making(`the image of version ${version.version}`, LEAST_BYTES + entries * ENTRY_BYTES, async () => {
    if (entries > SMALL) return await buildApart(build);
    const { buildImage } = await import('./image-files.ts');
    await buildImage(build);
  });
  return { file, map: map ?? loadStageMap(mapFile, root) };
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

/** In a process of its own: what a thread had freed would stay with this one. */
async function buildApart({ repository, signal, ...files }: ImageFiles): Promise<void> {
  signal?.throwIfAborted();
  const stopping = new AbortController();
  const kept = getCompileCacheDir();
  const child = fork(new URL('./image-process.ts', import.meta.url), [], {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    env: { ...process.env, ...(kept !== undefined && { NODE_COMPILE_CACHE: dirname(kept) }) },
  });
  let failure: Error | undefined = new UnavailableError(
    `the process that makes the image of ${files.root} ended early`,
  );
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', (error) => {
      failure = error;
      resolve();
    });
  });
  const tell = (order: ImageOrder) => {
    if (child.connected) child.send(order, () => {});
  };
  // All that it reads comes through this process, with its retries and neighbours.
  const read = async (wanted: Extract<ImageAnswer, { key: string }>) => {
    try {
      const { range } = wanted;
      const { bytes } = await readObject(repository.bucket, wanted.key, READ_LIMIT, { range, signal: stopping.signal });
      tell({ read: wanted.read, bytes });
    } catch (error) {
      tell({ read: wanted.read, error: toThreadError(error) });
    }
  };
  child.on('message', (answer: ImageAnswer) => {
    if ('key' in answer) void read(answer);
    else failure = answer.error && fromThreadError(answer.error);
  });
  const stop = () => {
    stopping.abort(signal!.reason);
    child.kill();
  };
  signal?.addEventListener('abort', stop, { once: true });
  tell({ repository: { id: repository.id, location: repository.location }, ...files });
  try {
    await ended;
    signal?.throwIfAborted();
    if (failure !== undefined) throw failure;
  } finally {
    signal?.removeEventListener('abort', stop);
    stopping.abort();
    if (signal?.aborted) removeTemporaries(files.file, ...(files.mapFile === undefined ? [] : [files.mapFile]));
  }
}

/** What a process that was ended was writing. */
function removeTemporaries(...files: readonly string[]): void {
  for (const file of files) {
    for (const name of readdirSync(dirname(file))) {
      if (name.includes(basename(file)) && name.endsWith('.tmp')) rmSync(join(dirname(file), name), { force: true });
    }
  }
}
