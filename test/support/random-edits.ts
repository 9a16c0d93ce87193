import { type ByteString, bytesOf } from '../../dataset/byte-string.ts';
import { sha256 } from '../../dataset/digest.ts';
import type { Entry } from '../../dataset/entry.ts';
import { comparePaths, isWithin, joinPath, parentOf } from '../../dataset/path.ts';
import type { Random } from './random.ts';

/** Few names, so that edits meet; some sort around `/`. */
const NAMES = ['a', 'b', 'a-b', 'a.b', 'c'].map(bytesOf);

/** An edit of a tree that does something whatever the tree is like. */
export type Edit = (tree: Map<ByteString, Entry>) => void;

/** A tree of few names and about `size` entries. `names` are those in a directory besides. */
export function smallTree(random: Random, size: number, names = 0): Entry[] {
  const tree = new Map<ByteString, Entry>([['' as ByteString, directory(random, '' as ByteString)]]);
  const all = [...NAMES, ...Array.from({ length: names }, (_, i) => bytesOf(`n${i}`))];
  for (let tries = 0; tree.size < size && tries < size * 4; tries++) {
    const parents = [...tree.values()].filter((entry) => entry.type === 'directory' && depthOf(entry.path) < 3);
    const path = joinPath(random.pick(parents).path, random.pick(all));
    if (!tree.has(path)) tree.set(path, random.oneIn(3) ? directory(random, path) : leaf(random, path));
  }
  return sorted(tree);
}

export function edited(tree: readonly Entry[], edits: readonly Edit[]): Entry[] {
  const entries = new Map(tree.map((entry) => [entry.path, entry]));
  for (const edit of edits) edit(entries);
  return sorted(entries);
}

/** What it does is fixed when it is made, so that two trees can get the same. */
export function randomEdit(random: Random, tree: readonly Entry[]): Edit {
  const { path } = random.pick(tree);
  const name = joinPath(path, random.pick(NAMES));
  const fresh = leaf(random, name);
  const folder = directory(random, name);
  const inner = leaf(random, joinPath(name, random.pick(NAMES)));
  switch (random.below(9)) {
    case 0:
      return (entries) => put(entries, fresh);
    case 1:
      return (entries) => {
        put(entries, folder);
        put(entries, inner);
      };
    case 2:
      return (entries) => remove(entries, path === '' ? name : path);
    case 3:
      return (entries) => update(entries, path, { mode: fresh.mode });
    case 4:
      return (entries) => update(entries, path, { mtimeSeconds: fresh.mtimeSeconds });
    case 5:
      // Another type of entry, whatever it is.
      return (entries) => {
        if (path === '') return;
        const isFolder = entries.get(path)?.type === 'directory';
        remove(entries, path);
        put(entries, { ...(isFolder ? fresh : folder), path });
        if (!isFolder) put(entries, { ...inner, path: joinPath(path, bytesOf('x')) });
      };
    default:
      return (entries) => {
        const entry = entries.get(path);
        if (entry !== undefined && entry.type !== 'directory')
          entries.set(path, { ...fresh, path, mode: entry.mode, uid: entry.uid });
      };
  }
}

function put(entries: Map<ByteString, Entry>, entry: Entry): void {
  for (let at = parentOf(entry.path); at !== undefined; at = parentOf(at))
    if (entries.get(at)?.type !== 'directory') return;
  if (entry.type === 'directory' && entries.get(entry.path)?.type === 'directory') return;
  remove(entries, entry.path);
  entries.set(entry.path, entry);
}

function remove(entries: Map<ByteString, Entry>, path: ByteString): void {
  for (const at of [...entries.keys()]) if (isWithin(at, path)) entries.delete(at);
}

function update(entries: Map<ByteString, Entry>, path: ByteString, fields: Partial<Entry>): void {
  const entry = entries.get(path);
  if (entry !== undefined) entries.set(path, { ...entry, ...fields } as Entry);
}

function directory(random: Random, path: ByteString): Entry {
  const mtimeSeconds = 1_700_000_000 + random.below(4);
  return { type: 'directory', path, mode: 0o755, uid: 0, gid: 0, mtimeSeconds, mtimeNanos: 0 };
}

function leaf(random: Random, path: ByteString): Entry {
  const base = { ...directory(random, path), mode: random.pick([0o644, 0o600, 0o755]) };
  if (random.oneIn(5)) return { ...base, type: 'symlink', target: random.pick(NAMES) };
  const value = random.below(4);
  return { ...base, type: 'file', size: 1000 + value, content: { kind: 'chunk', id: sha256(String(value)) } };
}

function depthOf(path: ByteString): number {
  return path === '' ? 0 : path.split('/').length;
}

function sorted(entries: ReadonlyMap<ByteString, Entry>): Entry[] {
  return [...entries.values()].sort((a, b) => comparePaths(a.path, b.path));
}
