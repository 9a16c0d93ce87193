import type { ByteString } from '../../dataset/byte-string.ts';
import type { Entry } from '../../dataset/entry.ts';
import { isDirectory, isSame, resolveEntry, type Side } from '../../dataset/merge/entries.ts';
import { joinPath } from '../../dataset/path.ts';

/** A directory's tree, or a file: what the merge by differences is compared with works on these, from the root down, all in memory. */
export interface ModelNode {
  readonly entry: Entry;
  readonly children: ReadonlyMap<string, ModelNode>;
}

export interface ModelMerge {
  readonly entries: readonly Entry[];
  /** Paths in conflict, and whom the user chose. */
  readonly conflicts: readonly (readonly [path: string, taken: Side | undefined])[];
}

type MaybeNode = ModelNode | undefined;

export function nodeOf(entries: readonly Entry[]): ModelNode {
  const nodes = new Map<string, { entry: Entry; children: Map<string, ModelNode> }>();
  for (const entry of entries) {
    const node = { entry, children: new Map<string, ModelNode>() };
    nodes.set(entry.path, node);
    if (entry.path === '') continue;
    const slash = entry.path.lastIndexOf('/');
    nodes.get(slash < 0 ? '' : entry.path.slice(0, slash))!.children.set(entry.path.slice(slash + 1), node);
  }
  return nodes.get('')!;
}

/** In path order. */
export function entriesOf(node: MaybeNode): Entry[] {
  if (node === undefined) return [];
  const names = [...node.children.keys()].sort();
  return [node.entry, ...names.flatMap((name) => entriesOf(node.children.get(name)))];
}

export function modelMerge(
  base: ModelNode,
  ours: ModelNode,
  theirs: ModelNode,
  choose: (path: ByteString) => Side | undefined,
): ModelMerge {
  const conflicts: [string, Side | undefined][] = [];

  /** What comes out at a path; what is in conflict and not chosen counts as kept. */
  const merge = (path: ByteString, b: MaybeNode, o: MaybeNode, t: MaybeNode): MaybeNode => {
    if (sameTree(o, t) || sameTree(b, t)) return o;
    if (sameTree(b, o)) return t;
    const [be, oe, te] = [b?.entry, o?.entry, t?.entry];
    if (isDirectory(oe) && isDirectory(te)) {
      const outcome = resolveEntry(be, oe, te);
      if (outcome.kind === 'conflict') throw new Error('directories are never in conflict');
      const entry = outcome.kind === 'merged' ? outcome.entry : outcome.kind === 'ours' ? oe : te;
      return { entry, children: mergeChildren(path, b, o, t) };
    }
    const outcome = resolveEntry(be, oe, te);
    if (!isDirectory(oe) && !isDirectory(te)) {
      if (outcome.kind === 'conflict') return settle(path, o, t);
      if (outcome.kind === 'merged') return { entry: outcome.entry, children: new Map() };
      return outcome.kind === 'ours' ? o : t;
    }
    if (!isDirectory(be)) return settle(path, o, t);
    // One side still has the directory, and the other has nothing there, or no directory.
    const before = conflicts.length;
    const children = mergeChildren(path, b, isDirectory(oe) ? o : undefined, isDirectory(te) ? t : undefined);
    const other = isDirectory(oe) ? t : o;
    if (other === undefined) return children.size > 0 ? { entry: (isDirectory(oe) ? oe : te)!, children } : undefined;
    if (children.size === 0) return other;
    conflicts.length = before;
    return settle(path, o, t);
  };
  const mergeChildren = (path: ByteString, b: MaybeNode, o: MaybeNode, t: MaybeNode) => {
    const names = new Set([b, o, t].flatMap((node) => [...(node?.children.keys() ?? [])]));
    const children = new Map<string, ModelNode>();
    for (const name of [...names].sort()) {
      const of = (node: MaybeNode) => node?.children.get(name);
      const merged = merge(joinPath(path, name as ByteString), of(b), of(o), of(t));
      if (merged !== undefined) children.set(name, merged);
    }
    return children;
  };
  const settle = (path: ByteString, o: MaybeNode, t: MaybeNode): MaybeNode => {
    const taken = choose(path);
    conflicts.push([path, taken]);
    return taken === undefined ? (o ?? t) : taken === 'ours' ? o : t;
  };

  return { entries: entriesOf(merge('' as ByteString, base, ours, theirs)), conflicts };
}

function sameTree(a: MaybeNode, b: MaybeNode): boolean {
  if (a === b) return true;
  if (a === undefined || b === undefined) return false;
  if (!isSame(a.entry, b.entry) || a.children.size !== b.children.size) return false;
  for (const [name, child] of a.children) if (!sameTree(child, b.children.get(name))) return false;
  return true;
}
