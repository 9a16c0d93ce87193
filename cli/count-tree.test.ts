import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, it } from 'vitest';
import { countTree } from './count-tree.ts';

const directory = mkdtempSync(join(tmpdir(), 'larder-count-'));
afterAll(() => rmSync(directory, { recursive: true }));

it("counts a directory's files and their bytes, with names of any bytes, and follows no link", async () => {
  mkdirSync(join(directory, 'a', 'b'), { recursive: true });
  writeFileSync(join(directory, 'a', 'one'), '1');
  writeFileSync(join(directory, 'a', 'b', 'three'), '123');
  writeFileSync(Buffer.from(`${directory}/\xff`, 'latin1'), '12345');
  symlinkSync('.', join(directory, 'loop'));
  await using count = countTree(directory);
  while (count.total === undefined) await sleep(5);
  expect(count.total).toEqual({ files: 3, bytes: 9 });
});
