import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type ByteString, bufferOf, fromBuffer } from '../dataset/byte-string.ts';
import type { Change } from '../dataset/commit.ts';
import { sha256 } from '../dataset/digest.ts';
import { type Content, type Entry, INLINE_LIMIT, type Xattr } from '../dataset/entry.ts';
import { comparePaths, isWithin, joinPath } from '../dataset/path.ts';
import { lgetxattr, llistxattr } from '../system/calls.ts';
import type { BaseTree } from './base-tree.ts';

/** Every entry of a directory tree, in path order, read with node:fs alone; each file's data given to `keep`. */
export function scanTree(directory: string, keep: (content: Content, data: Buffer) => void = () => {}): Entry[] {
  const entries: Entry[] = [];
  const inodes = new Map<string, ByteString[]>();
  const visit = (path: ByteString) => {
    const at = Buffer.concat([Buffer.from(path === '' ? directory : `${directory}/`), bufferOf(path)]);
    const status = lstatSync(at, { bigint: true });
    const nanos = ((status.mtimeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
    const xattrs: Xattr[] = [];
    for (const name of [...llistxattr(at)].sort()) {
      if (name.startsWith('user.')) xattrs.push({ name: name as ByteString, value: lgetxattr(at, name)! });
    }
    const common = {
      path,
      mode: Number(status.mode & 0o7777n),
      uid: Number(status.uid),
      gid: Number(status.gid),
      mtimeSeconds: Number((status.mtimeNs - nanos) / 1_000_000_000n),
      mtimeNanos: Number(nanos),
      ...(xattrs.length > 0 ? { xattrs } : {}),
    };
    if (status.isDirectory()) {
      entries.push({ type: 'directory', ...common });
      for (const name of (readdirSync(at, { encoding: 'latin1' }) as ByteString[]).sort()) visit(joinPath(path, name));
    } else if (status.isSymbolicLink()) {
      entries.push({ type: 'symlink', ...common, target: fromBuffer(readlinkSync(at, { encoding: 'buffer' })) });
    } else if (status.isFile()) {
      const data = readFileSync(at);
      const content = contentOf(data);
      keep(content, data);
      entries.push({ type: 'file', ...common, size: data.length, content });
      const key = `${status.dev} ${status.ino}`;
      inodes.set(key, [...(inodes.get(key) ?? []), path]);
    }
  };
  visit('' as ByteString);
  const links = new Map<ByteString, ByteString>();
  for (const paths of inodes.values()) if (paths.length > 1) for (const path of paths) links.set(path, paths[0]!);
  return entries
    .map((entry) =>
      entry.type === 'file' && links.has(entry.path) ? { ...entry, link: links.get(entry.path)! } : entry,
    )
    .sort((a, b) => comparePaths(a.path, b.path));
}

function contentOf(data: Buffer): Content {
  return data.length <= INLINE_LIMIT ? { kind: 'inline', bytes: data } : { kind: 'chunk', id: sha256(data) };
}

/** Writes a content as the cache does, to `objects/<2 hex>/<id>`. */
export function storeObject(objects: string, content: Content, data: Buffer): void {
  if (content.kind === 'inline') return;
  const file = join(objects, content.id.slice(0, 2), content.id);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, data);
}

/** A version held in memory, which counts what is asked of it. */
export function memoryBase(entries: readonly Entry[]): BaseTree & { readonly asked: ByteString[] } {
  const asked: ByteString[] = [];
  return {
    asked,
    async find(path) {
      asked.push(path);
      return entries.find((entry) => entry.path === path);
    },
    async *subtree(path) {
      // In uneven batches, as leaves are cut.
      const within = entries.filter((entry) => isWithin(entry.path, path));
      for (let i = 0, size = 1; i < within.length; i += size, size = (size % 4) + 1) yield within.slice(i, i + size);
    },
    async linkGroups() {
      return new Set(entries.flatMap((entry) => (entry.type === 'file' && entry.link ? [entry.link] : [])));
    },
  };
}

/** What a commit makes of changes, without a repository. Throws where they are out of order or break a rule of editManifest. */
export function applyChanges(base: readonly Entry[], changes: readonly Change[]): Entry[] {
  const tree = new Map(base.map((entry) => [entry.path, entry]));
  const removeBelow = (path: ByteString) => {
    for (const other of tree.keys()) if (isWithin(other, path)) tree.delete(other);
  };
  let last: { path: ByteString; kind: Change['kind'] } | undefined;
  for (const change of changes) {
    const path = change.kind === 'put' ? change.entry.path : change.kind === 'read' ? change.file.path : change.path;
    const order = last === undefined ? -1 : comparePaths(last.path, path);
    if (order > 0 || (order === 0 && !(last!.kind === 'delete' && change.kind !== 'delete'))) {
      throw new Error(`out of order: ${last!.kind} ${last!.path}, then ${change.kind} ${path}`);
    }
    last = { path, kind: change.kind };
    if (change.kind === 'delete') {
      removeBelow(path);
      continue;
    }
    let entry: Entry;
    if (change.kind === 'put') entry = change.entry;
    else {
      const { from, identity: _, ...metadata } = change.file;
      const at = bufferOf(from);
      const xattrs = [...llistxattr(at)]
        .filter((name) => name.startsWith('user.'))
        .sort()
        .map((name) => ({ name: name as ByteString, value: lgetxattr(at, name)! }));
      entry = {
        type: 'file',
        ...metadata,
        content: contentOf(readFileSync(at)),
        ...(xattrs.length > 0 ? { xattrs } : {}),
      };
    }
    if (entry.type !== 'directory') removeBelow(path);
    tree.set(path, entry);
  }
  for (const { path } of tree.values()) {
    const parent = path.slice(0, Math.max(0, path.lastIndexOf('/'))) as ByteString;
    if (path !== '' && tree.get(parent)?.type !== 'directory') throw new Error(`${path} has no directory`);
  }
  return [...tree.values()].sort((a, b) => comparePaths(a.path, b.path));
}

/** One line an entry, for comparing: hard-link groups by their members, since a group's name is not of the tree. */
export function dump(entries: readonly Entry[], options: { times: boolean; links: boolean }): string[] {
  const groups = new Map<ByteString, ByteString[]>();
  for (const { path, ...entry } of entries) {
    if ('link' in entry && entry.link !== undefined) groups.set(entry.link, [...(groups.get(entry.link) ?? []), path]);
  }
  return entries.map((entry) => {
    const { path, mode, uid, gid, mtimeSeconds, mtimeNanos, xattrs } = entry;
    const time = options.times ? ` ${mtimeSeconds}.${mtimeNanos}` : '';
    const attributes = (xattrs ?? []).map(({ name, value }) => ` ${name}=${value.toString('hex')}`).join('');
    let rest = '';
    if (entry.type === 'symlink') rest = ` -> ${entry.target}`;
    if (entry.type === 'file') {
      const { content, link } = entry;
      rest = ` ${entry.size} ${content.kind === 'inline' ? content.bytes.toString('hex') : content.id}`;
      const members = link === undefined ? [] : groups.get(link)!;
      if (options.links && members.length > 1) rest += ` = ${members.join(' ')}`;
    }
    return `${JSON.stringify(path)} ${entry.type} ${mode.toString(8)} ${uid}:${gid}${time}${attributes}${rest}`;
  });
}
