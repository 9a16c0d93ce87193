import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { benchCache } from './cache.ts';
import { benchImport } from './import.ts';
import { benchLarge } from './large.ts';
import { benchMillion } from './million.ts';
import { compileProgram } from './programs.ts';
import { benchRead } from './read.ts';
import { LEGEND, met, type Report, type Row, table } from './report.ts';
import { benchScale } from './scale.ts';
import { benchVolumes } from './volumes.ts';

interface Section {
  /** Whether it makes file systems in loop files and mounts them. */
  readonly mounts: boolean;
  /** Whether it takes so long that it runs only where it is named. */
  readonly long?: boolean;
  /** @param soFar told what there is of a section that takes long */
  run(scratch: string, soFar: (report: Report) => void): Promise<Report | Row[]>;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    s3: { type: 'boolean', default: false },
    json: { type: 'string' },
    bytes: { type: 'string', default: '1.5e9' },
    small: { type: 'boolean', default: false },
    files: { type: 'string' },
    parts: { type: 'string', default: '' },
    peers: { type: 'string', default: '' },
    volumes: { type: 'string' },
  },
});
const sizes = positionals.filter((word) => /^\d+$/.test(word)).map(Number);

const sections: Record<string, Section> = {
  read: { mounts: true, run: (scratch) => benchRead(scratch, compileProgram(scratch, 'reader')) },
  large: { mounts: true, run: (scratch) => benchLarge(scratch, compileProgram(scratch, 'reader')) },
  import: { mounts: true, run: (scratch) => benchImport(scratch, { bytes: Number(values.bytes), s3: values.s3 }) },
  cache: {
    mounts: true,
    long: true,
    run: (scratch, soFar) =>
      benchCache(scratch, {
        soFar,
        small: values.small,
        files: values.files === undefined ? undefined : Number(values.files),
        parts: listed(values.parts),
        peers: listed(values.peers),
      }),
  },
  volumes: {
    mounts: true,
    long: true,
    run: (scratch, soFar) =>
      benchVolumes(scratch, {
        soFar,
        small: values.small,
        volumes: values.volumes === undefined ? undefined : Number(values.volumes),
        parts: listed(values.parts),
      }),
  },
  million: { mounts: true, run: benchMillion },
  scale: {
    mounts: false,
    run: (scratch) => benchScale(scratch, { sizes: sizes.length > 0 ? sizes : [100_000, 1_000_000], s3: values.s3 }),
  },
};

const names = positionals.filter((word) => !/^\d+$/.test(word));
const wanted = names.length > 0 ? names : Object.keys(sections).filter((name) => !sections[name]!.long);
const unknown = wanted.filter((name) => !Object.hasOwn(sections, name));
if (unknown.length > 0) {
  console.error(`bench: no section ${unknown.join(', ')}; there are: ${Object.keys(sections).join(', ')}`);
  process.exit(2);
}
if (process.getuid?.() !== 0 && wanted.some((name) => sections[name]!.mounts)) {
  console.error('bench: needs root: it makes file systems in loop files and mounts them');
  process.exit(2);
}

const scratch = mkdtempSync(join(process.env.LARDER_BENCH_DIRECTORY ?? tmpdir(), 'larder-bench-'));
try {
  const reports = new Map<string, Report>();
  for (const name of wanted) {
    console.error(`bench: ${name}`);
    const keep = (report: Report) => {
      reports.set(name, report);
      if (values.json !== undefined) save(values.json, reports);
    };
    const result = await sections[name]!.run(scratch, keep);
    keep(Array.isArray(result) ? { rows: result } : result);
  }
  console.log(markdown(reports));
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

/** Figures to a file of JSON, and the tables beside it, in `.md`. */
function save(file: string, reports: ReadonlyMap<string, Report>): void {
  const figures = [...reports].map(([name, report]) => [name, report.figures ?? report.rows]);
  writeFileSync(file, `${JSON.stringify(Object.fromEntries(figures), undefined, 2)}\n`);
  writeFileSync(`${file.replace(/\.json$/, '')}.md`, `${markdown(reports)}\n`);
}

function markdown(reports: ReadonlyMap<string, Report>): string {
  const rows = [...reports.values()].flatMap((report) => report.rows);
  const tables = [...reports.values()].flatMap((report) => report.table ?? []);
  const missed = rows.filter((row) => met(row) === false).length;
  return [...tables, table(rows), LEGEND, `${rows.length} figures, ${missed} of their goals missed`].join('\n\n');
}

function listed(names: string): string[] {
  return names.split(',').filter((name) => name !== '');
}
