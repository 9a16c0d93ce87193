import type { Difference } from '../dataset/diff.ts';
import type { Entry } from '../dataset/entry.ts';
import { contentId, displayPath, entryDocument } from './describe.ts';
import { formatBytes, formatFileTime, formatOctal } from './format.ts';
import { bytesFields, type Output, type Style } from './output.ts';

/** A added, D deleted, M other content, T another type, m the same content with other mode, owner, time or attributes. */
export type Letter = 'A' | 'D' | 'M' | 'T' | 'm';

const WORDS = { A: 'added', D: 'deleted', M: 'modified', T: 'type', m: 'metadata' } as const;
const STYLES: Readonly<Record<Letter, Style>> = { A: 'green', D: 'red', M: 'yellow', T: 'magenta', m: 'cyan' };

/** How many paths differ, and by how many bytes of files. */
export interface DifferenceTotals {
  added: number;
  deleted: number;
  modified: number;
  type: number;
  metadata: number;
  bytesBefore: number;
  bytesAfter: number;
}

export function noDifferences(): DifferenceTotals {
  return { added: 0, deleted: 0, modified: 0, type: 0, metadata: 0, bytesBefore: 0, bytesAfter: 0 };
}

export function letterOf({ before, after }: Difference): Letter {
  if (before === undefined) return 'A';
  if (after === undefined) return 'D';
  if (before.type !== after.type) return 'T';
  return sameContent(before, after) ? 'm' : 'M';
}

function sameContent(before: Entry, after: Entry): boolean {
  if (before.type === 'file' && after.type === 'file') {
    return before.size === after.size && contentId(before) === contentId(after);
  }
  if (before.type === 'symlink' && after.type === 'symlink') return before.target === after.target;
  return true;
}

export function countDifference(totals: DifferenceTotals, difference: Difference): void {
  totals[WORDS[letterOf(difference)]] += 1;
  totals.bytesBefore += sizeOf(difference.before) ?? 0;
  totals.bytesAfter += sizeOf(difference.after) ?? 0;
}

export function differenceDocument(difference: Difference): object {
  const { path, before, after } = difference;
  return {
    ...bytesFields('path', path),
    change: WORDS[letterOf(difference)],
    ...(before !== undefined && { before: entryDocument(before) }),
    ...(after !== undefined && { after: entryDocument(after) }),
  };
}

/** `M labels.csv  1.20 KiB -> 1.31 KiB` */
export function differenceLine(difference: Difference, style: Output['style']): string {
  const letter = letterOf(difference);
  const detail = detailOf(letter, difference);
  return `${style(STYLES[letter], `${letter} ${displayPath(difference.path)}`)}${detail === '' ? '' : `  ${detail}`}`;
}

function detailOf(letter: Letter, { before, after }: Difference): string {
  if (letter === 'T') return `${before!.type} -> ${after!.type}`;
  if (letter === 'm') return metadataChanges(before!, after!).join(', ');
  const sizes = [sizeOf(before), sizeOf(after)].filter((size) => size !== undefined).map(formatBytes);
  return [...new Set(sizes)].join(' -> ');
}

function metadataChanges(before: Entry, after: Entry): string[] {
  const changes: string[] = [];
  if (before.mode !== after.mode) changes.push(`mode ${formatOctal(before.mode)} -> ${formatOctal(after.mode)}`);
  if (before.uid !== after.uid || before.gid !== after.gid) {
    changes.push(`owner ${before.uid}:${before.gid} -> ${after.uid}:${after.gid}`);
  }
  if (before.mtimeSeconds !== after.mtimeSeconds || before.mtimeNanos !== after.mtimeNanos) {
    changes.push(`time ${timeOf(before)} -> ${timeOf(after)}`);
  }
  if (!sameAttributes(before, after)) changes.push('attributes');
  if (before.type === 'file' && after.type === 'file' && before.link !== after.link) changes.push('hard links');
  return changes;
}

function sameAttributes(before: Entry, after: Entry): boolean {
  const [a, b] = [before.xattrs ?? [], after.xattrs ?? []];
  return (
    a.length === b.length &&
    a.every(({ name, value }, index) => name === b[index]!.name && value.equals(b[index]!.value))
  );
}

function timeOf(entry: Entry): string {
  return formatFileTime(entry.mtimeSeconds, entry.mtimeNanos).replace(/\.0+Z$/, 'Z');
}

function sizeOf(entry: Entry | undefined): number | undefined {
  return entry?.type === 'file' ? entry.size : undefined;
}

/** `8 added, 316 modified, 0 deleted; 12.3 MiB more` */
export function differenceSummary(totals: DifferenceTotals): string {
  const parts = [`${totals.added} added`, `${totals.modified} modified`, `${totals.deleted} deleted`];
  if (totals.type > 0) parts.push(`${totals.type} of another type`);
  if (totals.metadata > 0) parts.push(`${totals.metadata} with other metadata only`);
  const change = totals.bytesAfter - totals.bytesBefore;
  const size =
    change === 0 ? 'the same size' : change > 0 ? `${formatBytes(change)} more` : `${formatBytes(-change)} less`;
  return `${parts.join(', ')}; ${size}`;
}
