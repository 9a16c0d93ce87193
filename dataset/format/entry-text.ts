import { textOf } from '../byte-string.ts';
import { sha256 } from '../digest.ts';
import type { Content, Entry } from '../entry.ts';
import type { IndexNode } from './index-node.ts';

/**
 * One line for an entry, which tells all of it, for tests and people:
 * `file 0644 0:0 1700000000.000000000 5 inline:68656c6c6f a/b` and, where there are any, ` link:…`, ` user.x=…`.
 */
export function formatEntry(entry: Entry): string {
  const words: string[] = [
    entry.type,
    entry.mode.toString(8).padStart(4, '0'),
    `${entry.uid}:${entry.gid}`,
    `${entry.mtimeSeconds}.${String(entry.mtimeNanos).padStart(9, '0')}`,
  ];
  if (entry.type === 'file') words.push(String(entry.size), formatContent(entry.content));
  words.push(quote(textOf(entry.path)));
  if (entry.type === 'symlink') words.push('->', quote(textOf(entry.target)));
  if (entry.type === 'file' && entry.link !== undefined) words.push(`link:${quote(textOf(entry.link))}`);
  for (const { name, value } of entry.xattrs ?? []) words.push(`${quote(textOf(name))}=${value.toString('hex')}`);
  return words.join(' ');
}

/** One line an entry. */
export function formatEntries(entries: Iterable<Entry>): string {
  let out = '';
  for (const entry of entries) out += `${formatEntry(entry)}\n`;
  return out;
}

/** One line a child. */
export function formatIndexNode({ level, children }: IndexNode): string {
  let out = `level ${level}\n`;
  for (const { digest, first, last, entries, bytes } of children)
    out += `${digest} ${entries} ${bytes} ${quote(textOf(first))} ${quote(textOf(last))}\n`;
  return out;
}

function formatContent(content: Content): string {
  switch (content.kind) {
    case 'inline':
      return `inline:${content.bytes.length <= 32 ? content.bytes.toString('hex') : `sha256-${sha256(content.bytes)}`}`;
    case 'chunk':
      return `chunk:${content.id}`;
    case 'chunks':
      return `chunks:${content.id}[${content.parts.map((part) => `${part.chunk ?? 'hole'}+${part.length}`).join(',')}]`;
    case 'source': {
      const version = content.version === undefined ? '' : `;${content.version}`;
      return `source:${content.id}[${[content.bucket, content.key, content.etag].map(quote).join(';')}${version}]`;
    }
  }
}

/** As it is where that is unambiguous, and as a JSON string otherwise. */
function quote(text: string): string {
  return /^[^\s"]+$/u.test(text) ? text : JSON.stringify(text);
}
