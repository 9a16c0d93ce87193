import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { contentOf } from './contents.ts';

/** What a reader prints when SIGTERM ends it. */
export interface ReaderResult {
  right: number;
  /** Names of files whose bytes were not theirs. */
  wrong: string[];
  /** How often each error code came. */
  errors: Record<string, number>;
}

// Reads files number `first`, `first + step`, … below `count` of a directory, over and over, and now and then one that it has
// read before. Checks every byte.
const [directory, ...numbers] = process.argv.slice(2);
const [first, step, count] = numbers.map(Number) as [number, number, number];
const result: ReaderResult = { right: 0, wrong: [], errors: {} };
let going = true;
process.on('SIGTERM', () => {
  going = false;
});

async function check(index: number): Promise<void> {
  try {
    const data = await readFile(`${directory}/f${index}`);
    if (data.equals(contentOf(index))) result.right += 1;
    else result.wrong.push(`f${index}`);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
    // A program that handles SIGTERM, as this one, may see EINTR of a wait that the signal ended.
    if (code !== 'EINTR') result.errors[code] = (result.errors[code] ?? 0) + 1;
  }
}

for (let index = first; going; index = index + step < count ? index + step : first) {
  await check(index);
  if (index > first && Math.random() < 0.5)
    await check(first + step * Math.floor((Math.random() * (index - first)) / step));
  await sleep(Math.random() * 10);
}
console.log(JSON.stringify(result));
