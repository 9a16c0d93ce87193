import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkout } from '../../dataset/checkout.ts';
import { describeTree, noise, randomizer } from '../../dataset/import/test-tree.ts';
import { readBranch } from '../../dataset/refs.ts';
import { initRepository, type Repository } from '../../dataset/repository.ts';
import { type Damage, verifyRepository } from '../../dataset/verify.ts';
import { readVersion } from '../../dataset/version.ts';

const KILLS = 100;
/** The repository is read back whole after so many kills. */
const DEEP_EVERY = 20;

const importer = fileURLToPath(new URL('../../dataset/import/test-import.ts', import.meta.url));

let top: string;
let source: string;
let repository: Repository;

beforeAll(async () => {
  top = fs.mkdtempSync(join(tmpdir(), 'larder-kill-import-'));
  process.env.LARDER_STATE = join(top, 'state');
  source = join(top, 'source');
  for (let i = 0; i < 600; i++) {
    fs.mkdirSync(join(source, `d${i % 12}`), { recursive: true });
    fs.writeFileSync(join(source, `d${i % 12}`, `f${i}`), noise(2_000 + (i % 50) * 200, i + 1));
  }
  fs.writeFileSync(join(source, 'large'), noise(8 << 20, 99));
  repository = await initRepository(join(top, 'repository'));
});

afterAll(async () => {
  await repository.bucket.close();
  delete process.env.LARDER_STATE;
  execFileSync('rm', ['-rf', top]);
});

/**
 * Runs an import in a process of its own, and kills that so many milliseconds after it began to work.
 * @returns how long it took, or undefined where it was killed before it was done
 */
async function importFor(milliseconds: number): Promise<number | undefined> {
  const child = spawn(process.execPath, [importer, repository.location, source, 'birds'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (data) => {
    said += data;
  });
  const ended = new Promise<{ code: number | null; signal: string | null }>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
  });
  await Promise.race([once(child.stdout, 'data'), ended]);
  const began = performance.now();
  const timer = setTimeout(() => child.kill('SIGKILL'), milliseconds);
  const { code, signal } = await ended;
  clearTimeout(timer);
  if (signal === 'SIGKILL') return undefined;
  if (code !== 0) throw new Error(`the importer failed: ${said}`);
  return performance.now() - began;
}

async function damages(deep: boolean): Promise<Damage[]> {
  const found: Damage[] = [];
  for await (const damage of verifyRepository(repository, { deep })) found.push(damage);
  return found;
}

async function head(): Promise<string | undefined> {
  return (await readBranch(repository, 'birds', 'main'))?.version;
}

function change(random: (below: number) => number, seed: number): void {
  for (let i = 0; i < 25; i++) {
    const path = join(source, `d${random(12)}`, `f${random(700)}`);
    if (random(4) === 0) fs.rmSync(path, { force: true });
    else fs.writeFileSync(path, noise(1_000 + random(8_000), seed * 1000 + i + 1));
  }
  if (seed % 7 === 0) fs.writeFileSync(join(source, 'large'), noise(6 << 20, seed + 1));
}

const allowed = { timeout: 600_000 };

describe('an importer that is killed at any moment', () => {
  it('leaves the old version or the new one, whole either way, and the next import completes', allowed, async () => {
    const random = randomizer(5);
    expect(await importFor(120_000)).toBeDefined();
    let killed = 0;
    let moved = 0;
    /** How long an import of such a change takes, in milliseconds, as far as is known. */
    let span = 400;
    let expected = await head();
    for (let round = 1; killed < KILLS; round++) {
      change(random, round);
      const took = await importFor(span * (random(1000) / 1000));
      const now = await head();
      if (took === undefined) {
        killed++;
        if (now !== expected) moved++;
        expect(await damages(killed % DEEP_EVERY === 0)).toEqual([]);
      } else {
        // It was done before it was to be killed: the next ones sooner.
        span = (span + took) / 2;
        expect(now).not.toBe(expected);
      }
      expected = now;
    }
    // Most kills come before the branch moves, or the test has shown nothing.
    expect(moved).toBeLessThan(KILLS / 2);

    expect(await importFor(120_000)).toBeDefined();
    expect(await damages(true)).toEqual([]);
    const target = join(top, 'out');
    const { root } = await readVersion(repository, (await readBranch(repository, 'birds', 'main'))!.version);
    await checkout(repository, root, target);
    expect(describeTree(target)).toEqual(describeTree(source));
    console.log(`killed ${killed} imports: ${killed - moved} left the old version, ${moved} had published the new one`);
  });
});
