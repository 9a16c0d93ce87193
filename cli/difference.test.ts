import { describe, expect, it } from 'vitest';
import { type ByteString, bytesOf } from '../dataset/byte-string.ts';
import type { Difference } from '../dataset/diff.ts';
import type { DirectoryEntry, Entry, FileEntry } from '../dataset/entry.ts';
import {
  countDifference,
  differenceLine,
  differenceSummary,
  isOnlyDirectoryTime,
  noDifferences,
} from './difference.ts';

const path = bytesOf('a/b');
const common = { path, mode: 0o644, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanos: 0 };
const file = (size: number, rest: Partial<FileEntry> = {}): FileEntry => ({
  ...common,
  type: 'file',
  size,
  content: { kind: 'inline', bytes: Buffer.alloc(size) },
  ...rest,
});
const folder = (rest: Partial<DirectoryEntry> = {}): DirectoryEntry => ({ ...common, type: 'directory', ...rest });
const line = (kind: Difference['kind'], before?: Entry, after?: Entry) =>
  differenceLine({ kind, path, before, after }, (_, text) => text);

describe('a difference', () => {
  it('is a letter, a path, and what is worth knowing', () => {
    expect(line('added', undefined, file(1))).toBe('A a/b  1 B');
    expect(line('removed', folder())).toBe('D a/b');
    expect(line('modified', file(1), file(2048))).toBe('M a/b  1 B -> 2.00 KiB');
    expect(line('modified', file(2), file(2))).toBe('M a/b  2 B');
    expect(line('type', file(2), folder())).toBe('T a/b  file -> directory');
    expect(line('metadata', file(2), file(2, { mode: 0o4755, uid: 1, mtimeNanos: 5 }))).toBe(
      'm a/b  mode 0644 -> 4755, owner 0:0 -> 1:0, time 1970-01-01T00:00:00Z -> 1970-01-01T00:00:00.000000005Z',
    );
    const xattrs = [{ name: bytesOf('user.a'), value: Buffer.from('1') }];
    expect(line('metadata', file(2, { link: path }), file(2, { xattrs }))).toBe('m a/b  attributes, hard links');
  });

  it('shows the root as a dot, and bytes that are no UTF-8 as numbers', () => {
    const plain = (_: unknown, text: string) => text;
    expect(differenceLine({ kind: 'added', path: '' as ByteString, after: folder() }, plain)).toBe('A .');
    expect(differenceLine({ kind: 'added', path: '\xff' as ByteString, after: folder() }, plain)).toBe('A \\xff');
  });

  it('is only a time where a directory differs in nothing else', () => {
    const only = (before: Entry, after: Entry) => isOnlyDirectoryTime({ kind: 'metadata', path, before, after });
    expect(only(folder(), folder({ mtimeSeconds: 1 }))).toBe(true);
    expect(only(folder(), folder({ mtimeSeconds: 1, mode: 0o700 }))).toBe(false);
    expect(only(file(1), file(1, { mtimeSeconds: 1 }))).toBe(false);
  });

  it('adds up', () => {
    const totals = noDifferences();
    expect(differenceSummary(totals)).toBe('0 added, 0 modified, 0 removed; the same size');
    for (let i = 0; i < 1200; i++) countDifference(totals, { kind: 'added', path, after: file(1024) });
    countDifference(totals, { kind: 'removed', path, before: file(1024) });
    countDifference(totals, { kind: 'type', path, before: file(1024), after: folder() });
    expect(differenceSummary(totals)).toBe('1,200 added, 0 modified, 1 removed, 1 of another type; 1.17 MiB more');
  });
});
