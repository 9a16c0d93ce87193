import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { directoryBucket } from '../dataset/bucket/directory.ts';
import { initRepository } from '../dataset/repository.ts';
import { createHealth, healthLines } from './health.ts';
import { repositoriesProbe, savesHealth, watchEventLoop } from './health-probes.ts';
import { createReach } from './reach.ts';

const directory = mkdtempSync(join(tmpdir(), 'larder-health-'));
afterAll(() => rmSync(directory, { recursive: true }));

describe('health', () => {
  it('is good when everything is, and tells what is wrong first', async () => {
    const well = { name: 'disk', ok: true, message: '7 GiB free' };
    const wrong = { name: 'keeper', ok: false, message: 'none' };
    expect(await createHealth({ disk: () => well })()).toEqual({ ok: true, checks: [well] });
    const health = await createHealth({ disk: async () => [well], keeper: () => wrong })();
    expect(health.ok).toBe(false);
    expect(healthLines(health)).toEqual(['wrong keeper: none', 'ok    disk: 7 GiB free']);
  });

  it('is wrong where it cannot be looked at', async () => {
    const health = createHealth({
      disk: async () => {
        throw new Error('no such directory');
      },
    });
    expect(await health()).toEqual({ ok: false, checks: [{ name: 'disk', ok: false, message: 'no such directory' }] });
  });
});

describe('saves', () => {
  it('are of the workspaces that this node has, and wrong where changes do not come to their records', () => {
    const well = { staged: 0, unsaved: 0, failing: 0, fenced: 0 };
    const message = (changes: object) => savesHealth({ ...well, ...changes }).message;
    expect(savesHealth(well)).toEqual({ name: 'saves', ok: true, message: '0 workspaces are saved here' });
    expect(message({ staged: 1 })).toBe('1 workspace is saved here');
    expect(message({ staged: 2, unsaved: 1 })).toBe(
      '3 workspaces are saved here; 1 of all is unstaged, with the last changes on their way',
    );
    expect(savesHealth({ ...well, staged: 2, fenced: 1 })).toEqual({
      name: 'saves',
      ok: false,
      message: '1 workspace belongs to another node now: changes to it are set aside; 1 workspace is saved here',
    });
    expect(savesHealth({ ...well, staged: 3, failing: 2 })).toMatchObject({
      ok: false,
      message: '2 workspaces cannot be saved now: changes to them are on this node only; 3 workspaces are saved here',
    });
  });
});

describe('a repository', () => {
  it('is well while it answers, and wrong when it is gone, asked no more than now and then', async () => {
    const location = join(directory, 'repository');
    const { bucket } = await initRepository(location);
    const probe = repositoriesProbe(
      () => [{ location }],
      createReach(async () => ({ bucket }), { reachedFor: 0 }),
    );
    expect(await probe()).toMatchObject([{ name: `repository ${location}`, ok: true }]);
    rmSync(join(location, 'repository.json'));
    expect(await probe()).toMatchObject([{ ok: false, message: expect.stringContaining('repository.json is gone') }]);
    await initRepository(location);
    // What was wrong is looked at again after a while.
    expect(await probe()).toMatchObject([{ ok: false }]);
  });

  it('is wrong when it does not answer in time', async () => {
    const bucket = directoryBucket(join(directory, 'hung'));
    const hung: typeof bucket = {
      ...bucket,
      head: (_key, signal) =>
        new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason))),
    };
    const probe = repositoriesProbe(
      () => [{ location: 's3://b/p' }],
      createReach(async () => ({ bucket: hung }), { patience: 20 }),
    );
    expect(await probe()).toMatchObject([{ ok: false, message: expect.stringMatching(/^no answer within 0.02 s/) }]);
  });

  it('is told of at once by what was known last, and asked anew beside that', async () => {
    const location = join(directory, 'known');
    const { bucket } = await initRepository(location);
    let asked = 0;
    const slow: typeof bucket = {
      ...bucket,
      async head(key, signal) {
        asked += 1;
        await sleep(100);
        return await bucket.head(key, signal);
      },
    };
    const reach = createReach(async () => ({ bucket: slow }), { reachedFor: 0 });
    expect(await reach.last(location)).toMatchObject({ ok: true });
    rmSync(join(location, 'repository.json'));
    const began = performance.now();
    expect(await Promise.all([reach.last(location), reach.last(location)])).toMatchObject([{ ok: true }, { ok: true }]);
    expect(performance.now() - began).toBeLessThan(90);
    expect(await reach.ask(location)).toMatchObject({ ok: false });
    expect(asked).toBe(2);
  });
});

describe('the event loop', () => {
  it('is wrong for a while after it stood still', async () => {
    using loop = watchEventLoop({ pace: 5, stuck: 100 });
    expect(await loop.probe()).toMatchObject({ ok: true });
    const until = performance.now() + 250;
    while (performance.now() < until);
    await sleep(10);
    expect(await loop.probe()).toMatchObject({ ok: false, message: expect.stringContaining('stood still') });
  });
});
