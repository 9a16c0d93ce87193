import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCache } from '../../cache/cache.ts';
import { layoutOf } from '../../cache/layout.ts';
import { sha256 } from '../../dataset/digest.ts';
import { canMount } from '../support/privilege.ts';
import { content } from './hydrator-power-cut-child.ts';

const child = join(import.meta.dirname, 'hydrator-power-cut-child.ts');

function run(command: string, ...args: string[]): void {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

function tornObjects(directory: string): string[] {
  return readdirSync(layoutOf(directory).objects, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && sha256(readFileSync(join(entry.parentPath, entry.name))) !== entry.name)
    .map((entry) => entry.name);
}

/** Fills a cache in a process of its own; then the file system's device stops where it is, and the process with it. */
async function fillUntilPowerIsCut(mount: string, image: string, directory: string, round: number): Promise<void> {
  const filler = spawn(process.execPath, [child, directory, String(round)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => filler.once('exit', resolve));
  const said = await Promise.race([new Promise((resolve) => filler.stdout.once('data', resolve)), ended]);
  expect(String(said)).toBe('filled\n');
  // Names reach the disk with the file system's journal, which any fsync writes, often before the bytes that they name do.
  const other = join(mount, 'other');
  writeFileSync(other, 'x', { flush: true });
  run('xfs_io', '-x', '-c', 'shutdown', mount);
  filler.kill('SIGKILL');
  await ended;
  run('umount', mount);
  run('mount', '-o', 'loop', image, mount);
}

describe.skipIf(!canMount)('when the machine loses power', () => {
  for (const [name, make] of [
    ['ext4', ['mkfs.ext4', '-q']],
    ['XFS', ['mkfs.xfs', '-q', '-f']],
  ] as const) {
    it(`no object of a cache on ${name} is torn, and what was sealed is there`, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'larder-power-'));
      const image = join(folder, 'image');
      const mount = join(folder, 'mount');
      const directory = join(mount, 'cache');
      mkdirSync(mount);
      writeFileSync(image, '');
      truncateSync(image, 512 * 1024 * 1024);
      run(make[0], ...make.slice(1), image);
      run('mount', '-o', 'loop', image, mount);
      try {
        let torn = 0;
        for (let round = 0; round < 4; round += 1) {
          await fillUntilPowerIsCut(mount, image, directory, round);
          torn += tornObjects(directory).length;
          await using cache = await openCache({ directory, bootId: `boot ${round + 1}` });
          expect(tornObjects(directory)).toEqual([]);
          for (let at = 0; at < 100; at += 1) expect(cache.has(sha256(content(round, at)))).toBe(true);
        }
        // The test must be able to fail: torn objects were there to be seen before the cache was opened.
        expect(torn).toBeGreaterThan(0);
      } finally {
        run('umount', mount);
        rmSync(folder, { recursive: true, force: true });
      }
    });
  }
});
