/** How a column stands: numbers to the right, everything else to the left. */
export type Align = 'left' | 'right';

export interface Column {
  readonly title: string;
  readonly align?: Align;
}

/** Lines of a table with one line of titles and two spaces between columns; no line ends in spaces. */
export function formatTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string[] {
  const all = [columns.map((column) => column.title), ...rows];
  const widths = columns.map((_, index) => all.reduce((widest, row) => Math.max(widest, displayWidth(row[index]!)), 0));
  return all.map((row) =>
    row
      .map((cell, index) => padTo(cell, widths[index]!, columns[index]!.align ?? 'left'))
      .join('  ')
      .trimEnd(),
  );
}

/** `text` padded with spaces to `width` terminal columns. */
export function padTo(text: string, width: number, align: Align = 'left'): string {
  const padding = ' '.repeat(Math.max(0, width - displayWidth(text)));
  return align === 'left' ? text + padding : padding + text;
}

/** `text` as far as it fits in `width` columns. */
export function cutTo(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  let cut = '';
  let used = 0;
  for (const { segment } of new Intl.Segmenter().segment(text)) {
    used += displayWidth(segment);
    if (used > width) break;
    cut += segment;
  }
  return cut;
}

const WIDE =
  /^(?:\p{Emoji_Presentation}|\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Katakana}|\p{Script=Hangul}|[\u3000-\u303e\uff01-\uff60\uffe0-\uffe6])/u;
const EMOJI_SEQUENCE = /\ufe0f/;
const INVISIBLE = /^(?:\p{Mark}|\p{Format})+$/u;

/** The columns that `text` takes on a terminal: wide for CJK and emoji, none for marks that combine. */
export function displayWidth(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let width = 0;
  for (const { segment } of new Intl.Segmenter().segment(text)) {
    if (INVISIBLE.test(segment)) continue;
    width += WIDE.test(segment) || EMOJI_SEQUENCE.test(segment) ? 2 : 1;
  }
  return width;
}
