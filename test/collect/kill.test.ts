import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readState } from '../../dataset/collect/state.ts';
import { collect } from '../../dataset/collect.ts';
import type { Digest } from '../../dataset/digest.ts';
import { deleteBranch, moveBranch } from '../../dataset/refs.ts';
import { initRepository, type Repository } from '../../dataset/repository.ts';
import { killRounds, spreadMoments } from '../support/kills.ts';
import { createRandom, type Random } from '../support/random.ts';
import { dataKeys, neededKeys, VersionMaker } from './small-versions.ts';

const KILLS = killRounds(16);
/** A collector of what one round leaves changes the store about so often until it begins again. */
const CHANGES = 60;

const program = fileURLToPath(new URL('./collector-child.ts', import.meta.url));

let directory: string;
let repository: Repository;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'larder-kill-collect-'));
  repository = await initRepository(directory);
});

afterAll(async () => {
  await repository.bucket.close();
  rmSync(directory, { recursive: true });
});

/** Runs a collector that is killed when it changes the store for the so manyeth time. */
async function collectFor(changes: number): Promise<void> {
  const child = spawn(process.execPath, [program, directory, String(changes)], { stdio: ['ignore', 'ignore', 'pipe'] });
  let complained = '';
  child.stderr.on('data', (data) => {
    complained += data;
  });
  const signal = await new Promise<string | null>((resolve) => child.once('close', (_code, signal) => resolve(signal)));
  expect({ signal, complained }).toEqual({ signal: 'SIGKILL', complained: '' });
}

function files(random: Random): Map<string, string> {
  const found = new Map<string, string>();
  for (let i = 0; i < 30; i++)
    found.set(`d${random.below(4)}/f${random.below(90)}`, `${random.below(150)} `.repeat(40));
  return found;
}

it('a collector that is killed at any moment loses nothing that is needed, and the next frees the rest', {
  timeout: 300_000,
}, async () => {
  const random = createRandom(11);
  const moment = spreadMoments();
  const needed: Digest[] = [];
  const phases: Record<string, number> = {};
  for (let kill = 0; kill < KILLS; kill++) {
    // What an earlier maker stored may be gone, and so this one stores all of its own.
    const maker = new VersionMaker(repository);
    for (let i = 0; i < 4; i++) await maker.make(files(random));
    const { id } = await maker.make(files(random));
    needed.push(id);
    if (needed.length > 3) {
      needed.shift();
      await deleteBranch(repository, 'birds', `b${kill - 3}`);
    }
    await moveBranch(repository, 'birds', `b${kill}`, { expect: 'absent', version: id, isGuarded: true });
    await collectFor(1 + Math.floor(moment() * CHANGES));
    const { phase, deleting } = await readState(repository);
    const where = deleting ? 'deleting' : phase;
    phases[where] = (phases[where] ?? 0) + 1;
    await neededKeys(repository, needed);
  }
  for (let i = 0; i < 3; i++) await collect({ repository, grace: 0, timing: { settle: 0, lease: 0 } });
  expect(await dataKeys(repository)).toEqual(await neededKeys(repository, needed));
  const left: string[] = [];
  for await (const { key } of repository.bucket.list('gc/')) left.push(key);
  expect(left.filter((key) => key !== 'gc/state' && key !== 'gc/clock')).toEqual([]);
  // Most kills come in the middle of something, or the test has shown nothing.
  expect(phases.idle).toBeLessThan(KILLS / 2);
  console.log(`killed ${KILLS} collectors, which left the state ${JSON.stringify(phases)}`);
});
