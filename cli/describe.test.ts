import { describe, expect, it } from 'vitest';
import { type ByteString, bytesOf } from '../dataset/byte-string.ts';
import { sha256 } from '../dataset/digest.ts';
import type { FileEntry } from '../dataset/entry.ts';
import { entryDocument, entryLine, messageLines, pathText, plainText, subjectOf } from './describe.ts';

const common = { mode: 0o644, uid: 1000, gid: 100, mtimeSeconds: 1_700_000_000, mtimeNanos: 5 };
const file: FileEntry = {
  ...common,
  type: 'file',
  path: bytesOf('a/é'),
  size: 2,
  content: { kind: 'inline', bytes: Buffer.from('hi') },
};

describe('a message', () => {
  it('cannot command the terminal', () => {
    expect(plainText('\x1b[2Jgone\x07')).toBe('\\x1b[2Jgone\\x07');
    expect(messageLines('one\n\ntwo\r\n\n')).toEqual(['one', '', 'two\\x0d']);
  });

  it('has a subject that leaves room for the rest', () => {
    expect(subjectOf('first\nsecond')).toBe('first');
    expect(subjectOf('')).toBe('');
    expect(subjectOf('é'.repeat(72))).toBe('é'.repeat(72));
    expect(subjectOf('é'.repeat(73))).toBe(`${'é'.repeat(71)}…`);
  });
});

describe('an entry', () => {
  it('is a document with every field', () => {
    const xattrs = [{ name: bytesOf('user.label'), value: Buffer.from([0xff]) }];
    expect(entryDocument({ ...file, xattrs, link: bytesOf('a/b') })).toEqual({
      path: 'a/é',
      type: 'file',
      mode: '0644',
      uid: 1000,
      gid: 100,
      mtime: '2023-11-14T22:13:20.000000005Z',
      size: 2,
      contentId: sha256('hi'),
      link: 'a/b',
      xattrs: [{ name: 'user.label', valueBase64: '/w==' }],
    });
  });

  it('is a line like those of ls', () => {
    expect(entryLine(file)).toMatch(/^-rw-r--r-- {2}1000 {3}100 {12}2 2023-11-1\d \d\d:\d\d a\/é$/);
    expect(pathText({ ...common, type: 'directory', path: '' as ByteString })).toBe('./');
    expect(pathText({ ...common, type: 'symlink', path: bytesOf('l'), target: bytesOf('a\nb') })).toBe('l -> a\\x0ab');
  });
});
