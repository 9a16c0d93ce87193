import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readBranch } from '../../dataset/refs.ts';
import { initRepository, openRepository, type Repository } from '../../dataset/repository.ts';
import { verifyRepository } from '../../dataset/verify.ts';
import { collect } from '../support/collect.ts';
import { killRounds } from '../support/kills.ts';
import { describeRepositories } from '../support/repositories.ts';
import { deepDamage, namesIn, TestHistory } from '../support/test-history.ts';

const child = fileURLToPath(new URL('./copy-child.ts', import.meta.url));

let top: string;
let source: Repository;
beforeAll(async () => {
  top = mkdtempSync(join(tmpdir(), 'larder-kill-copy-'));
  process.env.LARDER_STATE = join(top, 'state');
  source = await initRepository(join(top, 'source'));
  const history = new TestHistory(join(top, 'tree'), 17, 60);
  for (let i = 0; i < 5; i++) {
    if (i > 0) history.change();
    await history.import(source, 'birds');
  }
}, 120_000);
afterAll(async () => {
  await source.bucket.close();
  delete process.env.LARDER_STATE;
  rmSync(top, { recursive: true, force: true });
});

describeRepositories('a copy that is killed', (make, kind) => {
  const kills = killRounds(kind === 'directory' ? 14 : 5);

  /** @returns objects stored, or undefined where it was killed */
  function copyUntil(target: string, moment: string): number | undefined {
    const { status, signal, stdout, stderr } = spawnSync(
      process.execPath,
      [child, source.location, target, 'birds', moment],
      { encoding: 'utf8' },
    );
    if (signal === 'SIGKILL') return undefined;
    if (status !== 0) throw new Error(`the copy failed: ${stderr}`);
    return Number(stdout);
  }

  async function makeTarget(): Promise<string> {
    const { bucket, location } = await initRepository(await make());
    await bucket.close();
    return location;
  }

  it(`wherever it is, ${kills} times, leaves only whole versions, and goes on where it was`, {
    timeout: 600_000,
  }, async () => {
    const whole = copyUntil(await makeTarget(), '0')!;
    const names = await namesIn(source, 'birds');
    expect(whole).toBeGreaterThan(15);
    let location = await makeTarget();
    for (let killed = 0; killed < kills; ) {
      // Not far each time: one target sees many ends, and only comes to its own because each copy goes on where the one before was.
      const moment = `${1 + ((killed * 5) % 7)}${killed % 2 === 0 ? '+' : ''}`;
      const stored = copyUntil(location, moment);
      const target = await openRepository(location);
      try {
        expect(await collect(verifyRepository(target))).toEqual([]);
        if (stored === undefined) {
          killed += 1;
          continue;
        }
        expect(await namesIn(target, 'birds')).toEqual(names);
        expect(await deepDamage(target)).toEqual([]);
      } finally {
        await target.bucket.close();
      }
      location = await makeTarget();
    }
    copyUntil(location, '0');
    const target = await openRepository(location);
    expect(await namesIn(target, 'birds')).toEqual(names);
    expect((await readBranch(target, 'birds', 'main'))?.version).toBeDefined();
    expect(await deepDamage(target)).toEqual([]);
    // And then there is nothing left to be sent.
    expect(copyUntil(location, '0')).toBe(0);
    await target.bucket.close();
  });
});
