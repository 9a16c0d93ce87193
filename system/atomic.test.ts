import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createFileAtomic, makeDirectory, writeFileAtomic } from './atomic.ts';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'larder-atomic-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

test('a file is replaced whole, and no other is left', async () => {
  const path = join(directory, 'x');
  await writeFileAtomic(path, 'one', { mode: 0o600 });
  await writeFileAtomic(path, 'two', { mode: 0o600 });
  expect(await readFile(path, 'utf8')).toBe('two');
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readdir(directory)).toEqual(['x']);
});

test('readers never see a part while many write', async () => {
  const path = join(directory, 'x');
  const texts = ['a'.repeat(100_000), 'b'.repeat(200_000)];
  await writeFileAtomic(path, texts[0]!);
  const writing = Promise.all(Array.from({ length: 20 }, (_, i) => writeFileAtomic(path, texts[i % 2]!)));
  for (let i = 0; i < 50; i++) expect(texts).toContain(await readFile(path, 'utf8'));
  await writing;
  expect(await readdir(directory)).toEqual(['x']);
});

test('a file is created by one of many', async () => {
  const path = join(directory, 'x');
  const created = await Promise.all(Array.from({ length: 10 }, (_, i) => createFileAtomic(path, String(i))));
  expect(created.filter(Boolean)).toHaveLength(1);
  expect(await readFile(path, 'utf8')).toBe(String(created.indexOf(true)));
  expect(await readdir(directory)).toEqual(['x']);
});

test('a write that fails leaves nothing', async () => {
  await makeDirectory(join(directory, 'x', 'y'));
  await expect(writeFileAtomic(join(directory, 'x'), '1')).rejects.toThrow();
  expect(await readdir(directory)).toEqual(['x']);
});

test('a directory that is there is no error', async () => {
  expect(await makeDirectory(join(directory, 'a', 'b'))).toBe(join(directory, 'a'));
  expect(await makeDirectory(join(directory, 'a', 'b'))).toBeUndefined();
});
