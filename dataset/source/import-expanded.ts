import { constants } from 'node:fs';
import { type FileHandle, lstat, open, readdir, readlink, realpath } from 'node:fs/promises';
import { type ByteString, bufferOf, fromBuffer, textOf } from '../byte-string.ts';
import { ConflictError, InvalidError, isErrno, NotFoundError, UnavailableError } from '../errors.ts';
import { readXattrs } from '../import/scan.ts';
import { joinPath, ROOT_PATH } from '../path.ts';
import {
  archiveFolder,
  checkArchives,
  type FileItem,
  type Item,
  type ItemsImportOptions,
  type ItemsImportResult,
  importItems,
  type OpenItem,
} from './import-items.ts';

export interface ExpandedImportOptions extends Omit<ItemsImportOptions, 'source' | 'items' | 'open'> {
  /** The directory to import. */
  readonly source: string;
}

const UNIT = 1 << 20;

/**
 * Makes a version of a directory in which tar archives are opened into their members: `a/b.tar` becomes the directory `a/b`. Other files are taken as
 * they are; several names of one file become several files. What has the size, times and inode of the last import is not read.
 */
export async function importExpanded({ source, ...options }: ExpandedImportOptions): Promise<ItemsImportResult> {
  const root = await realDirectory(source);
  const others = { count: 0 };
  const result = await importItems({
    ...options,
    source: JSON.stringify(['expanded', root]),
    items: checkArchives(walk(root, others)),
    open: (item) => openFile(joinPath(root, item.key as ByteString), item),
  });
  if (others.count > 0)
    options.onWarning?.(`left out, as a version cannot hold them: ${others.count} devices, sockets or FIFOs`);
  return result;
}

async function realDirectory(source: string): Promise<ByteString> {
  try {
    const found = fromBuffer(await realpath(Buffer.from(source), 'buffer'));
    if ((await lstat(bufferOf(found))).isDirectory()) return found;
  } catch (error) {
    if (!isErrno(error, 'ENOENT') && !isErrno(error, 'ENOTDIR')) throw error;
    throw new NotFoundError(`there is no directory ${source} to import`, { cause: error, facts: { source } });
  }
  throw new InvalidError(`${source} is not a directory`, { facts: { source } });
}

/** What a directory has, in path order. */
async function* walk(root: ByteString, others: { count: number }): AsyncGenerator<Item[]> {
  let batch: Item[] = [await directoryAt(root, ROOT_PATH)];
  async function* below(real: ByteString, path: ByteString): AsyncGenerator<Item[]> {
    const found = await readdir(bufferOf(joinPath(root, real)), { encoding: 'buffer', withFileTypes: true });
    const children = found.map((each) => {
      const name = fromBuffer(each.name);
      const folder = each.isFile() ? archiveFolder(name) : undefined;
      return { each, real: joinPath(real, name), at: joinPath(path, folder ?? name), isArchive: folder !== undefined };
    });
    children.sort((a, b) => (a.at < b.at ? -1 : 1));
    for (const { each, real: where, at, isArchive } of children) {
      if (each.isDirectory()) {
        batch.push(await directoryAt(joinPath(root, where), at));
        yield* below(where, at);
      } else if (each.isSymbolicLink()) {
        const absolute = bufferOf(joinPath(root, where));
        const target = fromBuffer(await readlink(absolute, { encoding: 'buffer' }));
        batch.push({ type: 'symlink', path: at, ...metadataOf(await lstat(absolute, { bigint: true })), target });
      } else if (each.isFile()) {
        const stat = await lstat(bufferOf(joinPath(root, where)), { bigint: true });
        batch.push({
          type: isArchive ? 'archive' : 'file',
          path: at,
          key: where,
          size: Number(stat.size),
          stamp: stampOf(stat),
        });
      } else others.count++;
      if (batch.length < 256) continue;
      yield batch;
      batch = [];
    }
  }
  yield* below(ROOT_PATH, ROOT_PATH);
  if (batch.length > 0) yield batch;
}

interface Stat {
  readonly mode: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly size: bigint;
  readonly ino: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

function metadataOf({ mode, uid, gid, mtimeNs }: Stat) {
  const second = 1_000_000_000n;
  const nanos = ((mtimeNs % second) + second) % second;
  return {
    mode: Number(mode & 0o7777n),
    uid: Number(uid),
    gid: Number(gid),
    mtimeSeconds: Number((mtimeNs - nanos) / second),
    mtimeNanos: Number(nanos),
  };
}

function stampOf({ size, mtimeNs, ctimeNs, ino }: Stat): string {
  return `${size} ${mtimeNs} ${ctimeNs} ${ino}`;
}

async function directoryAt(absolute: ByteString, path: ByteString): Promise<Item> {
  await using handle = await open(
    bufferOf(absolute),
    constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW,
  );
  const xattrs = readXattrs(handle.fd);
  return { type: 'directory', path, ...metadataOf(await handle.stat({ bigint: true })), ...(xattrs && { xattrs }) };
}

async function openFile(absolute: ByteString, item: FileItem): Promise<OpenItem | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(bufferOf(absolute), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw new UnavailableError(`cannot read '${textOf(item.path)}': ${(error as Error).message}`, {
      cause: error,
      facts: { path: textOf(item.path) },
    });
  }
  const stat = await handle.stat({ bigint: true });
  const xattrs = readXattrs(handle.fd);
  async function* body(): AsyncGenerator<Buffer> {
    try {
      const block = Buffer.allocUnsafeSlow(Number(stat.size < UNIT ? stat.size + 1n : BigInt(UNIT)));
      for (;;) {
        const { bytesRead } = await handle.read(block, 0, block.length, null);
        if (bytesRead === 0) break;
        yield block.subarray(0, bytesRead);
      }
      if (stampOf(await handle.stat({ bigint: true })) !== stampOf(stat))
        throw new ConflictError(
          `'${textOf(item.path)}' changed while it was read; stop what writes to it and import again, or import a snapshot`,
          { facts: { path: textOf(item.path) } },
        );
    } finally {
      await handle.close();
    }
  }
  return { entry: { ...metadataOf(stat), ...(xattrs && { xattrs }) }, stamp: stampOf(stat), body: body() };
}
