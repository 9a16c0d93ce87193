import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canMount } from '../support/privilege.ts';
import { createCacheWorld } from './cache-world.ts';

const READERS = 3;
const FILES = 250;
const BYTES = 40_000;
const ROUNDS = 3;

describe.skipIf(!canMount)("the node's daemon", () => {
  const cache = createCacheWorld();
  beforeAll(() => cache.begin());
  afterAll(() => cache.end());

  const directoryOf = (part: string) => join(cache.world.directory, 'cache', part);

  it('is killed in the middle of cold epochs, and no reader sees an error or a wrong byte', async () => {
    let cachedAtKills = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const version = cache.cold(`epoch-${round}`, FILES, BYTES);
      const { pid } = cache.pids();
      const before = objectCount();
      const readings = Array.from({ length: READERS }, () => cache.read(version));
      // By turns before anything came, and when some of it is there.
      if (round % 2 === 1) while (objectCount() === before) await sleep(2);
      else await sleep(Math.random() * 150);
      await cache.kill(pid);
      if (objectCount() > before) cachedAtKills += 1;
      cache.startDaemon();
      for (const { right, wrong, errors } of await Promise.all(readings)) {
        expect({ right, wrong, errors }).toEqual({ right: FILES, wrong: [], errors: {} });
      }
    }
    expect(cachedAtKills).toBeGreaterThan(0);
  }, 240_000);

  it('is killed with its keeper, and the mounts heal without being mounted again', async () => {
    const version = cache.cold('both', FILES, BYTES);
    const { pid, keeperPid } = cache.pids();
    const reading = cache.read(version);
    await sleep(Math.random() * 100);
    await Promise.all([cache.kill(pid), cache.kill(keeperPid!)]);
    const { wrong } = await reading;
    expect(wrong).toEqual([]);
    cache.startKeeper();
    cache.startDaemon();
    await cache.untilServing();
    const deadline = Date.now() + 120_000;
    for (;;) {
      const again = await cache.read(version);
      expect(again.wrong).toEqual([]);
      if (again.right === FILES) break;
      expect(Date.now(), JSON.stringify(again.errors)).toBeLessThan(deadline);
      await sleep(100);
    }
  }, 240_000);

  it.each([
    ['gone', (file: string) => rmSync(file)],
    ['garbage', (file: string) => writeFileSync(file, Buffer.alloc(100_000, 'x'))],
  ])(
    'finds its objects again when the index is %s',
    async (how, spoil) => {
      const version = cache.cold(`index-${how}`, 20, BYTES);
      expect((await cache.read(version)).right).toBe(20);
      await cache.kill(cache.pids().pid);
      for (const suffix of ['-wal', '-shm']) rmSync(directoryOf(`index.db${suffix}`), { force: true });
      spoil(directoryOf('index.db'));
      cache.startDaemon();
      await cache.untilServing();
      const [shown] = cache.world.documents('cache', 'show');
      expect(shown).toMatchObject({ objects: objectCount() });
    },
    240_000,
  );

  it('replaces a damaged object below a mount that has read it, and the mount reads the right one', async () => {
    const version = cache.cold('damage', 20, BYTES);
    expect((await cache.read(version)).right).toBe(20);
    const [name, id] = [...version.files][7]!;
    const object = join(cache.objects, id.slice(0, 2), id);
    const bytes = readFileSync(object);
    bytes[100]! ^= 1;
    writeFileSync(object, bytes);
    expect(await cache.read(version)).toMatchObject({ right: 19, wrong: [name] });
    const verified = cache.world.larder('--json', 'cache', 'verify');
    expect(verified.status).toBe(5);
    expect(JSON.parse(verified.stdout.split('\n')[0]!)).toMatchObject({ damaged: [id], unknown: [] });
    expect(await cache.read(version)).toEqual({ right: 20, wrong: [], errors: {} });
    expect(cache.world.ok('cache', 'verify')).not.toContain('damaged');
  }, 240_000);

  it('drops what a crash of the machine may have torn, and fetches it again', async () => {
    const version = cache.cold('crash', 50, BYTES);
    expect((await cache.read(version)).right).toBe(50);
    const { pid } = cache.pids();
    cache.world.ok('unmount', version.target);
    const objects = () => new Set(readdirSync(cache.objects, { recursive: true, encoding: 'utf8' }));
    const journals = readdirSync(directoryOf('journal'));
    expect(journals.length).toBeGreaterThan(0);
    await cache.kill(pid);
    // The journal of another boot, and of what it names some torn: short, empty, zeros.
    let torn = 0;
    for (const name of readdirSync(directoryOf('journal'))) {
      const file = directoryOf(`journal/${name}`);
      const bytes = readFileSync(file);
      bytes.write('00000000-0000-0000-0000-000000000000', 0, 'latin1');
      writeFileSync(file, bytes);
      for (let at = 64; at < bytes.length && torn < 30; at += 32) {
        const id = bytes.toString('hex', at, at + 32);
        if (![...version.files.values()].includes(id)) continue;
        const object = join(cache.objects, id.slice(0, 2), id);
        if (torn % 3 === 0) truncateSync(object, 100);
        else if (torn % 3 === 1) truncateSync(object);
        else writeFileSync(object, Buffer.alloc(readFileSync(object).length));
        torn += 1;
      }
    }
    expect(torn).toBeGreaterThan(0);
    const before = objects().size;
    cache.startDaemon();
    await cache.untilServing();
    expect(objects().size).toBeLessThan(before);
    cache.world.ok('mount', 'crash', version.target);
    expect(await cache.read(version)).toEqual({ right: 50, wrong: [], errors: {} });
  }, 240_000);

  function objectCount(): number {
    return readdirSync(cache.objects, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
      .length;
  }
});
