import { expect, it } from 'vitest';
import { readingPool } from '../commit.ts';

it('ends threads that are still starting, and the process lives on', async () => {
  // A thread that is terminated while it loads a native library would take this process along.
  for (let round = 0; round < 10; round += 1) {
    const pool = readingPool();
    await new Promise((resolve) => setTimeout(resolve, round * 15));
    await pool.close();
    await expect(pool.run({} as never).result).rejects.toThrow('ended');
  }
});
