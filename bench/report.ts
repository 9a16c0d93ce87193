/** One measured figure beside its rival's, with the goal that it is held to. */
export interface Row {
  readonly what: string;
  /** Ours and theirs, with unit: `74,210 files/s`. */
  readonly larder: string;
  readonly rival?: string;
  readonly rivalName?: string;
  /** How many times as good as the rival, over 1 being better; or the figure that the goal bounds. */
  readonly value: number;
  readonly goal?: { readonly atLeast: number } | { readonly atMost: number };
  readonly unit?: string;
}

/** What a section of the benchmark found. */
export interface Report {
  /** Figures that stand for themselves, or beside goals. */
  readonly rows: readonly Row[];
  /** A Markdown table of its own, printed before the rows. */
  readonly table?: string;
  /** All that was measured, for `--json`; the rows if not said. */
  readonly figures?: unknown;
}

export function met(row: Row): boolean | undefined {
  if (row.goal === undefined) return undefined;
  return 'atLeast' in row.goal ? row.value >= row.goal.atLeast : row.value <= row.goal.atMost;
}

/** What the columns of `table` are. */
export const LEGEND =
  'Ratio: how many times as good Larder is as what it is compared with, above 1 being better; where nothing is, the part that the ' +
  'first column names. Figure: what has no ratio. Of several rounds, medians.';

/** The rows as a Markdown table. */
export function table(rows: readonly Row[]): string {
  const cells = rows.map((row) => {
    const reached = met(row);
    const goal = row.goal === undefined ? '' : 'atLeast' in row.goal ? `≥ ${row.goal.atLeast}` : `≤ ${row.goal.atMost}`;
    const value = row.value.toFixed(2);
    return [
      row.what,
      row.larder,
      row.rival === undefined ? '' : `${row.rival} (${row.rivalName})`,
      row.unit === undefined ? value : '',
      row.unit === undefined ? '' : `${value} ${row.unit}`,
      goal === '' ? '' : `${goal}${row.unit === undefined ? '' : ` ${row.unit}`} ${reached ? 'met' : 'MISSED'}`,
    ];
  });
  return columns(['what', 'Larder', 'compared with', 'ratio', 'or figure', 'goal'], cells);
}

/** A Markdown table. */
export function columns(head: readonly string[], cells: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...cells.map((row) => (row[column] as string).length)),
  );
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column] as number)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...cells.map(line)].join('\n');
}

export function rate(count: number, seconds: number, unit: string): string {
  return `${Math.round(count / seconds).toLocaleString('en-US')} ${unit}/s`;
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
