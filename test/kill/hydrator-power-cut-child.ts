/** Fills a cache, says that it has, and waits to be killed: `DIRECTORY ROUND`. */

import { openCache } from '../../cache/cache.ts';
import { sha256 } from '../../dataset/digest.ts';

const [directory, round] = [process.argv[2]!, Number(process.argv[3])];

/** Object `at` of a round: those below 100 are sealed before the power goes. */
export function content(round: number, at: number): Buffer {
  return Buffer.alloc(20_000 + ((at * 977) % 60_000), `${round} ${at} `);
}

if (import.meta.main) {
  const cache = await openCache({ directory, bootId: `boot ${round}` });
  const sealed = cache.writer();
  for (let at = 0; at < 100; at += 1) sealed.put(sha256(content(round, at)), content(round, at));
  sealed.close();
  await cache.sealed();
  const open = cache.writer();
  for (let at = 100; at < 400 + 100 * round; at += 1) open.put(sha256(content(round, at)), content(round, at));
  open.flush();
  process.stdout.write('filled\n');
  setInterval(() => {}, 1000);
}
