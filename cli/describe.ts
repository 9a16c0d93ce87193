import { type ByteString, bytesOf, textOf } from '../dataset/byte-string.ts';
import { type Digest, sha256, shortId } from '../dataset/digest.ts';
import type { Entry, FileEntry } from '../dataset/entry.ts';
import type { Version } from '../dataset/version.ts';
import { formatBytes, formatDate, formatFileTime, formatMode, formatNumberOf, formatOctal } from './format.ts';
import { bytesFields } from './output.ts';

/** What somebody else wrote, without what a terminal would obey: control characters become `\\xNN`. */
export function plainText(text: string): string {
  return textOf(bytesOf(text));
}

/** A message's lines. */
export function messageLines(message: string): string[] {
  return message.replace(/\n+$/, '').split('\n').map(plainText);
}

/** The longest subject that is shown in a line with other things. */
const SUBJECT_LIMIT = 72;

/** A message's first line, cut where it would crowd out the rest. */
export function subjectOf(message: string): string {
  const subject = [...messageLines(message)[0]!];
  return subject.length <= SUBJECT_LIMIT ? subject.join('') : `${subject.slice(0, SUBJECT_LIMIT - 1).join('')}…`;
}

/** A version as a JSON document has it. */
export function versionDocument(version: Version): object {
  const { id, root, parents, author, time, message, meta, from = [], entries, bytes } = version;
  return { version: id, root, parents, author, time, message, meta, from, entries, bytes };
}

/** `1,234 entries, 42.0 MiB` */
export function sizeOfVersion(version: Pick<Version, 'entries' | 'bytes'>): string {
  return `${formatNumberOf(version.entries, 'entry', 'entries')}, ${formatBytes(version.bytes)}`;
}

/** `3f2a5c0d9b1e 2026-11-25 16:05 ada@lab  Add eight images`, for one line a version. */
export function versionLine(version: Version, names: readonly string[], style: (text: string) => string): string {
  const decoration = names.length > 0 ? ` (${names.join(', ')})` : '';
  const subject = subjectOf(version.message);
  return `${style(shortId(version.id))}${decoration} ${formatDate(version.time)} ${subject}`.trimEnd();
}

/** An entry as a JSON document has it. Links, targets and names that are not UTF-8 come with a `…Base64` field. */
export function entryDocument(entry: Entry): object {
  return {
    ...bytesFields('path', entry.path),
    type: entry.type,
    mode: formatOctal(entry.mode),
    uid: entry.uid,
    gid: entry.gid,
    mtime: formatFileTime(entry.mtimeSeconds, entry.mtimeNanos),
    ...(entry.type === 'file' && {
      size: entry.size,
      contentId: contentId(entry),
      ...(entry.link !== undefined && bytesFields('link', entry.link)),
    }),
    ...(entry.type === 'symlink' && bytesFields('target', entry.target)),
    ...(entry.xattrs !== undefined && {
      xattrs: entry.xattrs.map(({ name, value }) => ({
        ...bytesFields('name', name),
        valueBase64: value.toString('base64'),
      })),
    }),
  };
}

/** The content id, also of a file so small that the manifest holds it: there as for one chunk, its SHA-256. */
export function contentId({ content }: FileEntry): Digest {
  return content.kind === 'inline' ? sha256(content.bytes) : content.id;
}

/** `-rw-r--r--  1000  1000      1,234 2026-11-25 16:05 images/a.png`, as `ls -l` has it. */
export function entryLine(entry: Entry): string {
  const size =
    entry.type === 'file' ? entry.size.toString() : entry.type === 'symlink' ? `${entry.target.length}` : '-';
  const owner = `${entry.uid.toString().padStart(5)} ${entry.gid.toString().padStart(5)}`;
  const when = formatDate(new Date(entry.mtimeSeconds * 1000));
  return `${formatMode(entry.type, entry.mode)} ${owner} ${size.padStart(12)} ${when} ${pathText(entry)}`;
}

/** The path as people read it: the root is `.`, a directory ends in `/`, a symlink shows where it leads. */
export function pathText(entry: Entry): string {
  const path = displayPath(entry.path);
  if (entry.type === 'directory') return `${path}/`;
  return entry.type === 'symlink' ? `${path} -> ${textOf(entry.target)}` : path;
}

export function displayPath(path: ByteString): string {
  return path === '' ? '.' : textOf(path);
}
