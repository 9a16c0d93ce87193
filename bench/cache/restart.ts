import { mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { initRepository } from '../../dataset/repository.ts';
import { shuffledFiles, writeSmall } from '../corpus.ts';
import { freshXfs } from '../filesystem.ts';
import { type LarderUnderTest, larderIn } from '../larder.ts';
import { measure } from '../measure.ts';
import { nodeOptions } from '../node-options.ts';
import { megabytes, type Row } from '../report.ts';
import type { Bench } from './context.ts';

/** A daemon that starts again with many objects in its cache: until it serves an open of a file that is not. */
export async function benchRestart({ scratch, sizes, record }: Bench): Promise<Row[]> {
  const count = sizes.cachedObjects;
  using filesystem = freshXfs(scratch, 'restart', 16);
  const { directory } = filesystem;
  await using larder = larderIn(directory);
  const targets = { many: join(directory, 'many-mounted'), few: join(directory, 'few-mounted') };
  for (const target of Object.values(targets)) mkdirSync(target);
  const sources = { many: join(directory, 'many'), few: join(directory, 'few') };
  writeSmall(sources.many, count);
  // A file for each start: what was opened once is cached.
  writeSmall(sources.few, 2000);
  await larder.run('repository', 'init');
  for (const name of ['many', 'few'] as const) {
    await larder.run('import', sources[name], name);
    await larder.run('mount', name, targets[name]);
  }
  const { seconds: prefetchSeconds } = await larder.run('prefetch', 'many');
  const uncached = shuffledFiles(targets.few).slice(-sizes.rounds);
  const rows: Row[] = [];
  for (const [round, file] of uncached.entries()) {
    const seconds = await secondsToServe(larder, file);
    const residentBytes = await larder.daemonResident();
    record({ part: 'restart', round, cachedObjects: count, prefetchSeconds, seconds, residentBytes });
    rows.push({
      what: `a daemon killed with ${count.toLocaleString('en-US')} objects cached: until its successor serves an open`,
      larder: '',
      value: seconds,
      unit: 's',
      goal: { atMost: 1 },
    });
  }
  for (const target of Object.values(targets)) await larder.run('unmount', target);
  return rows;
}

/** A version of very many files, imported in place, that is staged: what the daemon keeps of it. */
export async function benchStaged({ scratch, sizes, record }: Bench): Promise<Row[]> {
  const count = sizes.stagedFiles;
  using filesystem = freshXfs(scratch, 'staged', 24);
  const { directory } = filesystem;
  const target = join(directory, 'mounted');
  mkdirSync(target);
  await using larder = larderIn(directory);
  const { bucket } = await initRepository(larder.repository);
  await bucket.close();
  const program = resolve(import.meta.dirname, '..', 'scale', 'run.ts');
  await measure([process.execPath, ...nodeOptions(), program, 'import', larder.repository, String(count)]);
  const staged = await larder.run('mount', 'generated', target);
  const residentBytes = await larder.daemonResident();
  await larder.killDaemon();
  const started = performance.now();
  larder.startDaemon();
  await untilReady(larder);
  const startSeconds = (performance.now() - started) / 1000;
  const again = await larder.daemonResident();
  record({
    part: 'staged',
    files: count,
    stageSeconds: staged.seconds,
    residentBytes,
    startSeconds,
    residentAgain: again,
  });
  await larder.run('unmount', target);
  const what = `${count.toLocaleString('en-US')} files staged in place`;
  return [
    { what: `${what}: staging, with the image`, larder: '', value: staged.seconds, unit: 's' },
    {
      what: `${what}: the daemon, resident at most`,
      larder: '',
      value: residentBytes / 1e6,
      unit: 'MB',
      goal: { atMost: 200 },
    },
    {
      what: `${what}: a daemon that starts again, until it answers`,
      larder: megabytes(again),
      value: startSeconds,
      unit: 's',
      goal: { atMost: 1 },
    },
  ];
}

/** From the start of a daemon whose predecessor was killed until an open that waits for it has its bytes. */
async function secondsToServe(larder: LarderUnderTest, file: string): Promise<number> {
  await larder.killDaemon();
  const start = performance.now();
  larder.startDaemon();
  await readFile(file);
  return (performance.now() - start) / 1000;
}

async function untilReady(larder: LarderUnderTest): Promise<void> {
  const deadline = performance.now() + 60_000;
  for (;;) {
    try {
      await larder.daemon();
      return;
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
  }
}
