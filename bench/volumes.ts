import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { compileProgram } from './programs.ts';
import type { Report, Row } from './report.ts';
import { benchAutosave } from './volumes/autosave.ts';
import { benchCheckpoint } from './volumes/checkpoint.ts';
import { type Bench, FULL, type Part, SMALL } from './volumes/context.ts';
import { benchLife } from './volumes/life.ts';
import { benchPause } from './volumes/pause.ts';

/** What each part is called on the command line. */
const parts: Record<string, Part> = {
  life: benchLife,
  pause: benchPause,
  checkpoint: benchCheckpoint,
  autosave: benchAutosave,
};

export interface VolumesOptions {
  /** Instead of as many volumes as usual. */
  readonly volumes: number | undefined;
  /** Little of everything, to see that it runs. */
  readonly small: boolean;
  /** Which parts, by name; all if none. */
  readonly parts: readonly string[];
  /** Told after each part what there is so far. */
  readonly soFar: (report: Report) => void;
}

/** Volumes through the CSI socket: what their lives cost, and what snapshots and saves cost those who write. */
export async function benchVolumes(scratch: string, options: VolumesOptions): Promise<Report> {
  const wanted = options.parts.length > 0 ? options.parts : Object.keys(parts);
  const unknown = wanted.filter((name) => !Object.hasOwn(parts, name));
  if (unknown.length > 0) throw new Error(`no part ${unknown.join(', ')}; there are: ${Object.keys(parts).join(', ')}`);
  const usual = options.small ? SMALL : FULL;
  const figures: unknown[] = [];
  const rows: Row[] = [];
  const tables: string[] = [];
  const report = (): Report => ({ rows, figures, ...(tables.length > 0 && { table: tables.join('\n\n') }) });
  for (const name of wanted) {
    console.error(`bench: volumes, ${name}`);
    const own = join(scratch, name);
    mkdirSync(own);
    const bench: Bench = {
      scratch: own,
      sizes: { ...usual, volumes: options.volumes ?? usual.volumes },
      writer: compileProgram(own, 'writer'),
      record(figure) {
        figures.push(figure);
        console.error(`bench: ${JSON.stringify(figure)}`);
      },
    };
    const found = await (parts[name] as Part)(bench);
    const { rows: more, table }: Report = Array.isArray(found) ? { rows: found } : found;
    rows.push(...more);
    if (table !== undefined) tables.push(table);
    options.soFar(report());
  }
  return report();
}
