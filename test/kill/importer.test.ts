import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkout } from '../../dataset/checkout.ts';
import { describeTree, noise, randomizer } from '../../dataset/import/test-tree.ts';
import { readBranch } from '../../dataset/refs.ts';
import { initRepository, type Repository } from '../../dataset/repository.ts';
import { type Damage, verifyRepository } from '../../dataset/verify.ts';
import { readVersion } from '../../dataset/version.ts';
import { killRounds, spreadMoments } from '../support/kills.ts';

const KILLS = killRounds(24);
/** The repository is read back whole after so many kills. */
const DEEP_EVERY = 8;

const importer = join(import.meta.dirname, 'importer-child.ts');

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

/** When an import is killed: right before or after it stores an object (as of `dieAtPut`), or so many milliseconds after it began to work. */
type Moment = { readonly put: string } | { readonly milliseconds: number };

interface Done {
  /** In milliseconds, from when it began to work. */
  readonly took: number;
  /** Objects. */
  readonly stored: number;
}

/** Runs an import in a process of its own. @returns undefined where it was killed before it was done */
async function importUntil(moment?: Moment): Promise<Done | undefined> {
  const put = moment && 'put' in moment ? moment.put : '0';
  const child = spawn(process.execPath, [importer, repository.location, source, 'birds', put], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const output of [child.stdout, child.stderr])
    output.on('data', (data) => {
      said += data;
    });
  const ended = once(child, 'close') as Promise<[number | null, string | null]>;
  await Promise.race([once(child.stdout, 'data'), ended]);
  const began = performance.now();
  const timer =
    moment && 'milliseconds' in moment ? setTimeout(() => child.kill('SIGKILL'), moment.milliseconds) : undefined;
  const [code, signal] = await ended;
  clearTimeout(timer);
  if (signal === 'SIGKILL') return undefined;
  if (code !== 0) throw new Error(`the importer failed: ${said}`);
  return { took: performance.now() - began, stored: Number(said.trim().split('\n').at(-1)) };
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
    expect(await importUntil()).toBeDefined();
    change(random, 1);
    let { took: span, stored: puts } = (await importUntil())!;
    let killed = 0;
    let moved = 0;
    const [puttingAt, timeAt] = [spreadMoments(), spreadMoments()];
    let expected = await head();
    for (let round = 2; killed < KILLS; round++) {
      change(random, round);
      // By turns at what it stores, and whenever it may be.
      const done = await importUntil(
        round % 2 === 0
          ? { put: `${1 + Math.floor(puttingAt() * puts)}${round % 4 === 0 ? '' : '+'}` }
          : { milliseconds: span * timeAt() },
      );
      const now = await head();
      if (done === undefined) {
        killed++;
        if (now !== expected) moved++;
        expect(await damages(killed % DEEP_EVERY === 0)).toEqual([]);
      } else {
        // It was done before it was to be killed: the next ones sooner.
        span = (span + done.took) / 2;
        puts = done.stored;
        expect(now).not.toBe(expected);
      }
      expected = now;
    }
    // Most kills come before the branch moves, or the test has shown nothing.
    expect(moved).toBeLessThan(KILLS / 2);

    expect(await importUntil()).toBeDefined();
    expect(await damages(true)).toEqual([]);
    const target = join(top, 'out');
    const { root } = await readVersion(repository, (await readBranch(repository, 'birds', 'main'))!.version);
    await checkout(repository, root, target);
    expect(describeTree(target)).toEqual(describeTree(source));
    console.log(`killed ${killed} imports: ${killed - moved} left the old version, ${moved} had published the new one`);
  });
});
