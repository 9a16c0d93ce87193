import { mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { initRepository } from '../../dataset/repository.ts';
import { shuffledFiles, writeImages } from '../corpus.ts';
import { freshXfs } from '../filesystem.ts';
import { type LarderUnderTest, larderIn } from '../larder.ts';
import { measure, median } from '../measure.ts';
import { nodeOptions } from '../node-options.ts';
import { megabytes, type Row } from '../report.ts';
import type { Bench } from './context.ts';

/** Small, and more than what is kept in the manifest itself. */
const OBJECT_BYTES = 400;

/** A daemon that starts again with many objects in its cache: until it serves an open of a file that is not. */
export async function benchRestart({ scratch, sizes, record }: Bench): Promise<Row[]> {
  const count = sizes.cachedObjects;
  using filesystem = freshXfs(scratch, 'restart', 16);
  const { directory } = filesystem;
  await using larder = larderIn(directory);
  await larder.run('repository', 'init');
  const mount = async (dataset: string, files: number) => {
    const [source, target] = [join(directory, dataset), join(directory, `${dataset}-mounted`)];
    writeImages(source, files, OBJECT_BYTES, files + mounted.length);
    mkdirSync(target);
    await larder.run('import', source, dataset);
    await larder.run('mount', dataset, target);
    mounted.push(target);
    return target;
  };
  const mounted: string[] = [];
  await mount('many', count);
  // One for each start: what was opened once is cached, and what shares a pack with it.
  const lone = [];
  for (let start = 0; start < sizes.rounds; start += 1) lone.push(await mount(`lone-${start}`, 1));
  const { seconds: prefetchSeconds } = await larder.run('prefetch', 'many');
  const taken: number[] = [];
  for (const [round, target] of lone.entries()) {
    const seconds = await secondsToServe(larder, shuffledFiles(target)[0]!);
    taken.push(seconds);
    await untilReady(larder);
    const residentBytes = await larder.daemonResident();
    record({ part: 'restart', round, cachedObjects: count, prefetchSeconds, seconds, residentBytes });
  }
  for (const target of mounted) await larder.run('unmount', target);
  return [
    {
      what: `a daemon killed with ${count.toLocaleString('en-US')} objects cached: until its successor serves an open`,
      larder: '',
      value: median(taken),
      unit: 's',
      goal: { atMost: 1 },
    },
  ];
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
