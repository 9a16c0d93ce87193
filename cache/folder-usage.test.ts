import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { folderUsage } from './folder-usage.ts';

const folder = mkdtempSync(join(tmpdir(), 'larder-usage-'));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

it('counts what files take on the disk, in all folders below, and no holes', async () => {
  for (let at = 0; at < 40; at += 1) {
    mkdirSync(join(folder, `${at % 4}`, 'deep'), { recursive: true });
    writeFileSync(join(folder, `${at % 4}`, 'deep', `${at}`), Buffer.alloc(20_000, 1));
  }
  writeFileSync(join(folder, 'hole'), '');
  truncateSync(join(folder, 'hole'), 10 ** 12);
  const all = await folderUsage(folder);
  expect(all).toBeGreaterThanOrEqual(40 * 20_000);
  expect(all).toBeLessThan(40 * 20_000 * 1.2);
  expect(await folderUsage(folder, new Set(['0']))).toBeLessThanOrEqual(all * 0.76);
  expect(await folderUsage(join(folder, 'nowhere'))).toBe(0);
});
