import { describe, expect, it } from 'vitest';
import { collect } from '../test/support/collect.ts';
import { type ByteString, bytesOf } from './byte-string.ts';
import type { Difference } from './diff.ts';
import { sha256 } from './digest.ts';
import type { FileEntry } from './entry.ts';
import { comparePaths } from './path.ts';
import { type RenameOptions, withRenames } from './renames.ts';

describe('a file that was removed and added again elsewhere', () => {
  it('is one that was renamed, whichever path comes first', async () => {
    const found = await renames([removed('a/x', '1'), added('b/x', '1'), added('c', '2'), removed('d', '2')]);
    expect(found).toEqual(['a/x -> b/x', 'd -> c']);
  });

  it('keeps what it was before, beside what it is', async () => {
    const [only] = await collect(withRenames(() => from([removed('a', '1'), added('b', '1', 0o600)])));
    expect(only).toMatchObject({
      kind: 'renamed',
      before: { path: 'a', mode: 0o644 },
      after: { path: 'b', mode: 0o600 },
    });
  });

  it('belongs to the one with its name, and else to the next', async () => {
    const same = [removed('a/1', 's'), removed('a/2', 's'), added('b/2', 's'), added('b/3', 's'), added('b/4', 's')];
    expect(await renames(same)).toEqual(['a/2 -> b/2', 'a/1 -> b/3', 'added b/4']);
  });

  it('must have the same content, and some', async () => {
    const all = [removed('a', '1'), added('b', '2'), removed('c', ''), added('d', '')];
    expect(await renames(all)).toEqual(['removed a', 'added b', 'removed c', 'added d']);
  });

  it('is not one where the path stayed', async () => {
    const changed: Difference = { kind: 'modified', path: bytesOf('a'), before: file('a', '1'), after: file('a', '2') };
    expect(await renames([changed, added('b', '1')])).toEqual(['modified a', 'added b']);
  });
});

describe('very many differences', () => {
  it('are read twice, with the same result', async () => {
    const many = Array.from({ length: 8000 }, (_, i) => [removed(`a/${i}`, `${i}`), added(`b/${i}`, `${i}`)]).flat();
    const found = await renames(many);
    expect(found).toHaveLength(8000);
    expect(found.every((text) => text.replaceAll('a/', 'b/').split(' -> ')[0] === text.split(' -> ')[1])).toBe(true);
  });

  it('are shown as they are beyond a limit, which is told', async () => {
    const told: number[] = [];
    const all = [removed('a', '1'), removed('b', '2'), added('c', '1')];
    const options = { limit: 2, onLimit: (limit: number) => told.push(limit) };
    expect(await renames(all, options)).toEqual(['removed a', 'removed b', 'added c']);
    expect(told).toEqual([2]);
  });
});

async function renames(differences: readonly Difference[], options?: RenameOptions): Promise<string[]> {
  const sorted = [...differences].sort((a, b) => comparePaths(a.path, b.path));
  const found = await collect(withRenames(() => from(sorted), options));
  expect(found.map(({ path }) => path)).toEqual(found.map(({ path }) => path).sort(comparePaths));
  return found.map((each) => (each.kind === 'renamed' ? `${each.from} -> ${each.path}` : `${each.kind} ${each.path}`));
}

async function* from(differences: readonly Difference[]): AsyncGenerator<Difference> {
  yield* differences;
}

function added(path: string, text: string, mode = 0o644): Difference {
  return { kind: 'added', path: bytesOf(path), after: { ...file(path, text), mode } };
}

function removed(path: string, text: string): Difference {
  return { kind: 'removed', path: bytesOf(path), before: file(path, text) };
}

function file(path: string, text: string): FileEntry {
  const common = { path: path as ByteString, mode: 0o644, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanos: 0 };
  const bytes = Buffer.from(text);
  // One stands in the manifest, the other does not.
  const content = text === '2' ? { kind: 'inline' as const, bytes } : { kind: 'chunk' as const, id: sha256(bytes) };
  return { ...common, type: 'file', size: bytes.length, content };
}
