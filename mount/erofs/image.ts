import { randomUUID } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Entry } from '../../dataset/entry.ts';
import { syncDirectory } from '../../system/atomic.ts';
import type { View } from '../view.ts';
import { BLOCK, UUID_BYTES } from './layout.ts';
import { readBlock, Space, writeFully } from './space.ts';
import { checkUuid, checkVolumeName, writeSuperblock } from './superblock.ts';
import { ImageWriter } from './writer.ts';

export interface ImageOptions {
  /** A version's entries in path order, from the root directory on, every directory explicit. */
  readonly entries: AsyncIterable<readonly Entry[]> | Iterable<readonly Entry[]>;
  /** Where the image will be. It appears there only whole; what was there is replaced. */
  readonly file: string;
  /** Up to 15 printable ASCII characters. */
  readonly volumeName?: string;
  /** 16 bytes; zeros when not given. Give different trees different ones: overlayfs tells lower file systems apart by it. */
  readonly uuid?: Uint8Array;
  /**
   * Whether the name `trusted.overlay.redirect` is written once for all (the default): a file takes 160 bytes instead of 192.
   * Linux 6.4 and erofs-utils 1.7 or later read such images.
   */
  readonly xattrPrefixes?: boolean;
  /** Owners and permissions to show instead of the entries'; each entry is marked with its own then (mount/owner-mark.ts). */
  readonly view?: View | undefined;
  readonly signal?: AbortSignal;
}

export interface ImageSummary {
  /** The image file's size. */
  readonly bytes: number;
  /** Files (hard links counted once), directories and symlinks. */
  readonly inodes: number;
  readonly entries: number;
}

/**
 * Writes an EROFS image of a tree, to be mounted below overlayfs: files carry everything but their data, and the xattrs
 * by which overlayfs finds that in a data-only layer at `/<2 hex>/<content id>`. Inline files, empty files and symlinks are whole.
 * The same entries and options give the same bytes.
 *
 * Memory does not grow with the number of entries: it holds the open directories' names (12 bytes and the name for each, up to three
 * times while a large one grows), a record for each hard-link group, 4 MiB of xattrs to share, and three extents of 1 MiB.
 *
 * Throws CorruptError when the entries are not those of a tree in path order, InvalidError when EROFS cannot hold one of them;
 * the file is untouched then.
 */
export async function writeImage(options: ImageOptions): Promise<ImageSummary> {
  const uuid = checkUuid(options.uuid ?? new Uint8Array(UUID_BYTES));
  const volumeName = checkVolumeName(options.volumeName ?? '');
  const directory = path.dirname(options.file);
  const temporary = path.join(directory, `.${path.basename(options.file)}.${randomUUID()}.tmp`);
  try {
    const summary = await writeTo(temporary, options, { uuid, volumeName });
    await rename(temporary, options.file);
    await syncDirectory(directory);
    return summary;
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

async function writeTo(
  file: string,
  options: ImageOptions,
  { uuid, volumeName }: { uuid: Uint8Array; volumeName: string },
): Promise<ImageSummary> {
  const fd = openSync(file, 'wx+', 0o600);
  try {
    const writer = new ImageWriter(new Space(fd), {
      xattrPrefixes: options.xattrPrefixes ?? true,
      view: options.view,
    });
    let entries = 0;
    for await (const batch of options.entries) {
      options.signal?.throwIfAborted();
      for (let index = 0; index < batch.length; index += 1) writer.add(batch[index]!);
      entries += batch.length;
    }
    const written = writer.finish();
    const first = readBlock(fd, 0);
    writeSuperblock(first, {
      rootNid: written.rootNid,
      inodes: written.inodes,
      buildSeconds: written.buildSeconds,
      buildNanos: written.buildNanos,
      blocks: written.bytes / BLOCK,
      uuid,
      volumeName,
      prefixesAt: written.prefixesAt,
      prefixCount: written.prefixesAt === undefined ? 0 : 1,
    });
    writeFully(fd, first, BLOCK, 0);
    await syncFile(file);
    return { bytes: written.bytes, inodes: written.inodes, entries };
  } finally {
    closeSync(fd);
  }
}

/** Through a descriptor of its own: the wait is off the event loop. */
async function syncFile(name: string): Promise<void> {
  await using handle = await open(name, 'r');
  await handle.sync();
}
