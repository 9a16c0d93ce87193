import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { unlinkSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { acquireLock, tryLock } from './lock.ts';

let directory: string;
let path: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'larder-lock-'));
  path = join(directory, 'lock');
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

test('one holds an exclusive lock at a time, also within a process', async () => {
  const first = (await acquireLock(path, 'exclusive'))!;
  expect(tryLock(path, 'exclusive')).toBeUndefined();
  expect(tryLock(path, 'shared')).toBeUndefined();
  expect(await acquireLock(path, 'exclusive', { timeout: 20 })).toBeUndefined();
  first.release();
  first.release();
  using second = tryLock(path, 'exclusive');
  expect(second).toBeDefined();
});

test('many hold a shared lock at once', () => {
  using first = tryLock(path, 'shared');
  using second = tryLock(path, 'shared');
  expect([first, second]).not.toContain(undefined);
  expect(tryLock(path, 'exclusive')).toBeUndefined();
});

test('the lock of a killed process is free', async () => {
  const module = join(import.meta.dirname, 'lock.ts');
  const holder = spawn(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `const { tryLock } = await import(${JSON.stringify(module)}); globalThis.lock = tryLock(${JSON.stringify(path)}, 'exclusive'); console.log('held'); setInterval(() => {}, 1000);`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  await once(holder.stdout!, 'data');
  expect(tryLock(path, 'exclusive')).toBeUndefined();
  const waiting = acquireLock(path, 'exclusive');
  holder.kill('SIGKILL');
  using lock = await waiting;
  expect(lock).toBeDefined();
});

test('whoever waits for a file that is removed locks its successor', async () => {
  const first = tryLock(path, 'exclusive')!;
  const waiting = acquireLock(path, 'exclusive');
  // In one turn with what follows, or the waiter is the one who locks the successor.
  unlinkSync(path);
  using successor = tryLock(path, 'exclusive');
  expect(successor).toBeDefined();
  first.release();
  expect(
    await Promise.race([waiting.then(() => 'locked'), new Promise((resolve) => setTimeout(resolve, 80, 'waits'))]),
  ).toBe('waits');
  successor!.release();
  (await waiting)!.release();
});

test('waiting ends with the signal', async () => {
  using _ = tryLock(path, 'exclusive');
  const waiting = acquireLock(path, 'exclusive', { signal: AbortSignal.timeout(20) });
  await expect(waiting).rejects.toThrow();
});
