import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { shuffledFiles, writeSmall } from './corpus.ts';
import { freshXfs } from './filesystem.ts';
import { larderIn } from './larder.ts';
import { megabytes, type Row } from './report.ts';

const FILES = 1_000_000;
const CHANGED = 100;

/** A million small files: import, a change of a hundred, stage. */
export async function benchMillion(scratch: string): Promise<Row[]> {
  using filesystem = freshXfs(scratch, 'million', 24);
  const source = join(filesystem.directory, 'source');
  const target = join(filesystem.directory, 'mounted');
  mkdirSync(target);
  writeSmall(source, FILES);
  await using larder = larderIn(filesystem.directory);
  await larder.run('repository', 'init');
  const rows: Row[] = [];

  const first = await larder.run('import', source, 'million');
  rows.push({
    what: 'import of 1,000,000 files',
    larder: `${Math.round(FILES / first.seconds).toLocaleString('en-US')} files/s`,
    value: first.seconds,
    unit: 's',
  });
  rows.push({
    what: 'its resident memory',
    larder: megabytes(first.residentBytes),
    value: first.residentBytes / 1e6,
    unit: 'MB',
    goal: { atMost: 300 },
  });

  const again = await larder.run('import', source, 'million');
  rows.push({
    what: 'the same again, unchanged',
    larder: `${again.seconds.toFixed(2)} s`,
    value: again.seconds,
    unit: 's',
  });

  for (const file of shuffledFiles(source).slice(0, CHANGED)) appendFileSync(file, 'changed\n');
  const before = diskBytes(larder.repository);
  const changed = await larder.run('import', source, 'million');
  const written = diskBytes(larder.repository) - before;
  rows.push({
    what: '100 of 1,000,000 changed, imported from the directory',
    larder: `${changed.seconds.toFixed(2)} s`,
    value: changed.seconds,
    unit: 's',
    goal: { atMost: 2 },
  });
  rows.push({
    what: 'what it wrote',
    larder: megabytes(written),
    value: written / 1e6,
    unit: 'MB',
    goal: { atMost: 5 },
  });

  const cold = await larder.run('mount', 'million', target);
  rows.push({
    what: 'stage of 1,000,000 files, first (with the daemon started)',
    larder: `${cold.seconds.toFixed(2)} s`,
    value: cold.seconds,
    unit: 's',
    goal: { atMost: 5 },
  });
  await larder.run('unmount', target);
  const warm = await larder.run('mount', 'million', target);
  rows.push({
    what: 'stage again',
    larder: `${warm.seconds.toFixed(2)} s`,
    value: warm.seconds,
    unit: 's',
    goal: { atMost: 1 },
  });
  rows.push({
    what: 'the daemon, resident',
    larder: megabytes(await larder.daemonResident()),
    value: (await larder.daemonResident()) / 1e6,
    unit: 'MB',
  });
  await larder.run('unmount', target);

  await larder.run('mount', 'million', target, '--workspace');
  for (const file of shuffledFiles(target).slice(0, CHANGED)) appendFileSync(file, 'changed\n');
  const beforeSnapshot = diskBytes(larder.repository);
  const snapshot = await larder.run('snapshot', 'create', target, '-m', 'a hundred changed');
  const snapshotBytes = diskBytes(larder.repository) - beforeSnapshot;
  rows.push({
    what: '100 of 1,000,000 changed, snapshot of a workspace',
    larder: `${snapshot.seconds.toFixed(2)} s`,
    value: snapshot.seconds,
    unit: 's',
    goal: { atMost: 2 },
  });
  rows.push({
    what: 'what it wrote',
    larder: megabytes(snapshotBytes),
    value: snapshotBytes / 1e6,
    unit: 'MB',
    goal: { atMost: 5 },
  });
  await larder.run('unmount', target);
  return rows;
}

function diskBytes(directory: string): number {
  return Number(execFileSync('du', ['-sb', directory], { encoding: 'utf8' }).split('\t')[0]);
}
