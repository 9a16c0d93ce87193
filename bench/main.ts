import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { benchImport } from './import.ts';
import { benchLarge } from './large.ts';
import { benchMillion } from './million.ts';
import { benchRead } from './read.ts';
import { met, type Row, table } from './report.ts';

const sections: Record<string, (scratch: string, reader: string) => Promise<Row[]>> = {
  read: benchRead,
  large: benchLarge,
  import: benchImport,
  million: benchMillion,
};

const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(sections);
const unknown = wanted.filter((name) => !Object.hasOwn(sections, name));
if (unknown.length > 0) {
  console.error(`bench: no section ${unknown.join(', ')}; there are: ${Object.keys(sections).join(', ')}`);
  process.exit(2);
}
if (process.getuid?.() !== 0) {
  console.error('bench: needs root: it makes file systems in loop files and mounts them');
  process.exit(2);
}

const scratch = mkdtempSync(join(process.env.LARDER_BENCH_DIRECTORY ?? tmpdir(), 'larder-bench-'));
try {
  const reader = join(scratch, 'reader');
  execFileSync('cc', ['-O2', '-pthread', '-o', reader, join(import.meta.dirname, 'reader.c')]);
  const rows: Row[] = [];
  for (const name of wanted) {
    console.error(`bench: ${name}`);
    rows.push(...(await (sections[name] as (typeof sections)[string])(scratch, reader)));
  }
  console.log(table(rows));
  const missed = rows.filter((row) => met(row) === false).length;
  console.log(`\n${rows.length} figures, ${missed} of their goals missed`);
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
