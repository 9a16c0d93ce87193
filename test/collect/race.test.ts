import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { findMissing } from '../../dataset/collect/audit.ts';
import { readRoots } from '../../dataset/collect/roots.ts';
import { collect } from '../../dataset/collect.ts';
import { noise } from '../../dataset/import/test-tree.ts';
import { readEntries } from '../../dataset/manifest.ts';
import { readFile } from '../../dataset/read-file.ts';
import { initRepository } from '../../dataset/repository.ts';
import { verifyRepository } from '../../dataset/verify.ts';
import { readVersion } from '../../dataset/version.ts';
import { canMount } from '../support/privilege.ts';
import { describeRepositories } from '../support/repositories.ts';

/** How long they race, in seconds; minutes of it find more. */
const SECONDS = Number(process.env.LARDER_TEST_RACE_SECONDS ?? 7);
const ACTORS = ['collector', 'collector', 'writer', 'writer', 'namer', 'reader', ...(canMount ? ['mounter'] : [])];

const actor = fileURLToPath(new URL('./race-actor.ts', import.meta.url));

interface Outcome {
  readonly code: number | null;
  readonly said: string;
  readonly complained: string;
}

describeRepositories('collections that race with imports, deletions, clones, volumes, readers and mounts', (make) => {
  let top: string;

  beforeAll(() => {
    top = fs.mkdtempSync(join(tmpdir(), 'larder-race-'));
    // Some share most of their files, and some few: what is left of a pack then is little.
    for (let tree = 0; tree < 5; tree++)
      for (let i = 0; i < 25; i++) {
        const folder = join(top, 'sources', `tree-${tree}`, `d${i % 3}`);
        fs.mkdirSync(folder, { recursive: true });
        fs.writeFileSync(
          join(folder, `f${i}`),
          noise(500 + i * 800, (tree < 3 ? i % 5 === 0 : i % 6 > 0) ? tree * 100 + i + 1 : i + 1),
        );
      }
  });
  afterAll(() => fs.rmSync(top, { recursive: true, force: true }));

  function start(kind: string, number: number, location: string): Promise<Outcome> {
    const own = join(top, `actor-${number}-${location.length}`);
    fs.mkdirSync(own, { recursive: true });
    const child = spawn(
      process.execPath,
      [actor, kind, location, join(top, 'sources'), own, String(number + 1), String(SECONDS * 1000)],
      // Each on a machine of its own, as far as it knows.
      { env: { ...process.env, LARDER_STATE: join(own, 'state') }, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    let said = '';
    let complained = '';
    child.stdout.on('data', (data) => {
      said += data;
    });
    child.stderr.on('data', (data) => {
      complained += data;
    });
    return new Promise((resolve) => child.once('close', (code) => resolve({ code, said, complained })));
  }

  it('lose nothing that has a name', { timeout: SECONDS * 1000 + 300_000 }, async () => {
    const repository = await initRepository(await make());
    try {
      const garbage = `packs/${'ab'.repeat(33).replace(/^../, 'ab/')}`;
      await repository.bucket.put(garbage, Buffer.from('what a crash left'));
      const outcomes = await Promise.all(ACTORS.map((kind, number) => start(kind, number, repository.location)));
      for (const { code, said, complained } of outcomes) {
        console.log(said.trim());
        expect(complained).toBe('');
        expect(code).toBe(0);
      }
      expect(await repository.bucket.head(garbage)).toBeUndefined();
      const damages: unknown[] = [];
      for await (const damage of verifyRepository(repository, { deep: true }))
        if (damage.affectedCount > 0) damages.push(damage);
      expect(damages).toEqual([]);
      let bytes = 0;
      let versions = 0;
      for await (const { version } of readRoots(repository)) {
        const { root } = await readVersion(repository, version);
        expect(await findMissing(repository, root)).toBeUndefined();
        versions += 1;
        for await (const entries of readEntries(repository, root))
          for (const entry of entries)
            if (entry.type === 'file')
              for await (const block of readFile(repository, entry, { root })) bytes += block.length;
      }
      console.log(`${versions} names and pins: all ${bytes} bytes read back`);
      await collect({ repository, dryRun: true });
    } finally {
      await repository.bucket.close();
    }
  });
});
