import { describe, expect, it } from 'vitest';
import { bytesOf } from '../byte-string.ts';
import { sha256 } from '../digest.ts';
import type { DirectoryEntry, Entry, FileEntry, SymlinkEntry } from '../entry.ts';
import { resolveEntry } from './entries.ts';

const common = { path: bytesOf('p'), mode: 0o644, uid: 0, gid: 0, mtimeSeconds: 1, mtimeNanos: 0 };
const base: FileEntry = { ...common, type: 'file', size: 5, content: { kind: 'chunk', id: sha256('base') } };
const folder: DirectoryEntry = { ...common, type: 'directory', mode: 0o755 };
const link: SymlinkEntry = { ...common, type: 'symlink', target: bytesOf('a') };
const content = (text: string, mtimeSeconds = 1): FileEntry => ({
  ...base,
  mtimeSeconds,
  content: { kind: 'chunk', id: sha256(text) },
});
const xattrs = (name: string) => [{ name: bytesOf(name), value: Buffer.from('v') }];
const merged = (entry: Entry, whose: 'ours' | 'theirs') => ({ kind: 'merged', entry, content: whose });
const conflict = (kind: string) => ({ kind: 'conflict', conflict: kind });

describe('a path', () => {
  it('is as the side has it that changed it', () => {
    expect(resolveEntry(base, content('new'), base)).toEqual({ kind: 'ours' });
    expect(resolveEntry(base, base, content('new'))).toEqual({ kind: 'theirs' });
    expect(resolveEntry(base, base, undefined)).toEqual({ kind: 'theirs' });
    expect(resolveEntry(base, undefined, base)).toEqual({ kind: 'ours' });
    expect(resolveEntry(undefined, undefined, base)).toEqual({ kind: 'theirs' });
  });

  it('is as both have it where they did the same', () => {
    expect(resolveEntry(base, content('new'), content('new'))).toEqual({ kind: 'ours' });
    expect(resolveEntry(base, undefined, undefined)).toEqual({ kind: 'ours' });
    expect(resolveEntry(undefined, folder, folder)).toEqual({ kind: 'ours' });
  });

  it('is in conflict where they did not', () => {
    expect(resolveEntry(base, content('a'), content('b'))).toEqual(conflict('both-modified'));
    expect(resolveEntry(undefined, content('a'), content('b'))).toEqual(conflict('both-added'));
    expect(resolveEntry(base, undefined, content('b'))).toEqual(conflict('deleted-by-ours'));
    expect(resolveEntry(base, content('a'), undefined)).toEqual(conflict('deleted-by-theirs'));
    expect(resolveEntry(base, { ...base, mode: 0o600 }, { ...base, mode: 0o755 })).toEqual(conflict('both-modified'));
    expect(resolveEntry(base, { ...base, xattrs: xattrs('user.a') }, { ...base, xattrs: xattrs('user.b') })).toEqual(
      conflict('both-modified'),
    );
    expect(resolveEntry(base, folder, content('b'))).toEqual(conflict('file-directory'));
    expect(resolveEntry(base, folder, undefined)).toEqual(conflict('deleted-by-theirs'));
    expect(resolveEntry(base, link, content('b'))).toEqual(conflict('both-modified'));
    expect(resolveEntry(link, { ...link, target: bytesOf('b') }, { ...link, target: bytesOf('c') })).toEqual(
      conflict('both-modified'),
    );
  });
});

describe('a file', () => {
  it('has the content of one side and the mode of the other', () => {
    const theirs = content('new', 7);
    expect(resolveEntry(base, { ...base, mode: 0o600, mtimeSeconds: 9 }, theirs)).toEqual(
      merged({ ...theirs, mode: 0o600 }, 'theirs'),
    );
    expect(resolveEntry(base, theirs, { ...base, uid: 5 })).toEqual(merged({ ...theirs, uid: 5 }, 'ours'));
    const labelled = { ...base, xattrs: xattrs('user.a') };
    expect(resolveEntry(base, theirs, labelled)).toEqual(merged({ ...theirs, xattrs: xattrs('user.a') }, 'ours'));
    expect(resolveEntry(labelled, { ...labelled, mode: 0 }, base)).toEqual(merged({ ...base, mode: 0 }, 'ours'));
  });

  it('that both gave another time, or both added, has the newer one', () => {
    expect(resolveEntry(base, { ...base, mtimeSeconds: 5 }, { ...base, mtimeSeconds: 6 })).toEqual({ kind: 'theirs' });
    expect(resolveEntry(base, { ...base, mtimeSeconds: 6 }, { ...base, mtimeSeconds: 5 })).toEqual({ kind: 'ours' });
    expect(resolveEntry(undefined, { ...base, mtimeNanos: 5 }, { ...base, mtimeNanos: 6 })).toEqual({ kind: 'theirs' });
  });

  it('that one side only touched goes where the other removed it', () => {
    const touched = { ...base, mtimeSeconds: 5, link: bytesOf('p') };
    expect(resolveEntry(base, touched, undefined)).toEqual({ kind: 'theirs' });
    expect(resolveEntry(base, undefined, touched)).toEqual({ kind: 'ours' });
  });

  it('of several names is taken whole or not at all', () => {
    const linked = { ...base, link: bytesOf('p') };
    expect(resolveEntry(linked, { ...linked, mode: 0 }, { ...linked, uid: 5 })).toEqual(conflict('both-modified'));
    expect(resolveEntry(base, linked, content('b'))).toEqual(conflict('both-modified'));
    expect(resolveEntry(linked, { ...linked, mtimeSeconds: 3 }, { ...linked, mtimeSeconds: 4 })).toEqual({
      kind: 'ours',
    });
  });
});

describe('a directory', () => {
  it('is never in conflict with one', () => {
    expect(resolveEntry(folder, { ...folder, mode: 0o700 }, { ...folder, mode: 0o500, mtimeSeconds: 9 })).toEqual(
      merged({ ...folder, mode: 0o700, mtimeSeconds: 9 }, 'ours'),
    );
    expect(resolveEntry(undefined, { ...folder, uid: 1, mtimeSeconds: 9 }, folder)).toEqual({ kind: 'ours' });
    expect(resolveEntry(base, folder, { ...folder, mtimeSeconds: 9 })).toEqual({ kind: 'theirs' });
  });

  it('of which only mode or time changed makes way', () => {
    expect(resolveEntry(folder, { ...folder, mode: 0o700 }, undefined)).toEqual({ kind: 'theirs' });
    expect(resolveEntry(folder, undefined, { ...folder, mode: 0o700 })).toEqual({ kind: 'ours' });
    expect(resolveEntry(folder, { ...folder, mode: 0o700 }, base)).toEqual({ kind: 'theirs' });
    expect(resolveEntry(folder, base, { ...folder, mode: 0o700 })).toEqual({ kind: 'ours' });
  });
});
