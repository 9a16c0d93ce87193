import type { Difference, DifferenceKind } from '../dataset/diff.ts';
import type { Entry } from '../dataset/entry.ts';
import type { Rename } from '../dataset/renames.ts';
import { displayPath, entryDocument } from './describe.ts';
import { formatBytes, formatCount, formatFileTime, formatOctal } from './format.ts';
import { bytesFields, type Output, type Style } from './output.ts';

/** A difference, or two that are one rename. */
export type Shown = Difference | Rename;
type ShownKind = DifferenceKind | 'renamed';

const LETTERS: Readonly<Record<ShownKind, string>> = {
  added: 'A',
  removed: 'D',
  modified: 'M',
  type: 'T',
  metadata: 'm',
  renamed: 'R',
};
const STYLES: Readonly<Record<ShownKind, Style>> = {
  added: 'green',
  removed: 'red',
  modified: 'yellow',
  type: 'magenta',
  metadata: 'cyan',
  renamed: 'blue',
};

/** How many paths differ, and how many bytes those that are files have before and after. */
export type DifferenceTotals = Record<ShownKind | 'bytesBefore' | 'bytesAfter', number>;

export function noDifferences(): DifferenceTotals {
  return { added: 0, removed: 0, modified: 0, type: 0, metadata: 0, renamed: 0, bytesBefore: 0, bytesAfter: 0 };
}

export function countDifference(totals: DifferenceTotals, difference: Shown): void {
  totals[difference.kind] += 1;
  totals.bytesBefore += sizeOf(difference.before) ?? 0;
  totals.bytesAfter += sizeOf(difference.after) ?? 0;
}

export function differenceDocument(difference: Shown): object {
  const { kind, path, before, after } = difference;
  return {
    ...bytesFields('path', path),
    change: kind,
    ...(kind === 'renamed' && bytesFields('from', difference.from)),
    ...(before !== undefined && { before: entryDocument(before) }),
    ...(after !== undefined && { after: entryDocument(after) }),
  };
}

/** `M labels.csv  1.20 KiB -> 1.31 KiB`: A added, D removed, M modified, R renamed, T of another type, m other metadata only. */
export function differenceLine(difference: Shown, style: Output['style']): string {
  const { kind, path } = difference;
  const detail = detailOf(difference);
  const name = kind === 'renamed' ? `${displayPath(difference.from)} -> ${displayPath(path)}` : displayPath(path);
  return `${style(STYLES[kind], `${LETTERS[kind]} ${name}`)}${detail === '' ? '' : `  ${detail}`}`;
}

function detailOf({ kind, before, after }: Shown): string {
  if (kind === 'type') return `${before!.type} -> ${after!.type}`;
  if (kind === 'metadata' || kind === 'renamed') return metadataChanges(before!, after!).join(', ');
  const sizes = [sizeOf(before), sizeOf(after)].filter((size) => size !== undefined).map(formatBytes);
  return [...new Set(sizes)].join(' -> ');
}

/** Whether all that differs is a directory's time: it moves with every file that comes or goes below. */
export function isOnlyDirectoryTime({ kind, before, after }: Shown): boolean {
  if (kind !== 'metadata' || after?.type !== 'directory') return false;
  return metadataChanges(before!, after).every((change) => change.startsWith('time '));
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

/** `8 added, 316 modified, 0 removed; 12.3 MiB more` */
export function differenceSummary(totals: DifferenceTotals): string {
  const parts = [
    `${formatCount(totals.added)} added`,
    `${formatCount(totals.modified)} modified`,
    `${formatCount(totals.removed)} removed`,
  ];
  if (totals.renamed > 0) parts.push(`${formatCount(totals.renamed)} renamed`);
  if (totals.type > 0) parts.push(`${formatCount(totals.type)} of another type`);
  if (totals.metadata > 0) parts.push(`${formatCount(totals.metadata)} with other metadata only`);
  const change = totals.bytesAfter - totals.bytesBefore;
  const size =
    change === 0 ? 'the same size' : change > 0 ? `${formatBytes(change)} more` : `${formatBytes(-change)} less`;
  return `${parts.join(', ')}; ${size}`;
}
