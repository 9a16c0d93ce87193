import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { age } from '../collect/small-versions.ts';
import { createWorld } from './support.ts';

const { directory, larder, ok, documents } = createWorld();
const repository = join(directory, 'repository');
const source = join(directory, 'source');
const DAY = 86_400_000;

describe('larder collect', () => {
  it('frees a deleted dataset in two runs a day apart, and tells what waits', () => {
    mkdirSync(source);
    for (let i = 0; i < 5; i++) writeFileSync(join(source, `f${i}`), `file ${i} `.repeat(500));
    ok('repository', 'init');
    ok('import', source, 'birds');
    expect(ok('collect')).toContain('nothing waits to be freed');
    ok('delete', 'birds', '--yes');
    age(repository, 2 * DAY);
    const [plan] = documents('collect', '--dry-run');
    expect(plan).toMatchObject({ dryRun: true, condemned: { packs: { objects: 1 } } });
    expect(ok('collect')).toMatch(/can be freed from .* on: run 'larder collect' then/);
    expect(documents('collect')[0]).toMatchObject({ waiting: { amounts: { packs: { objects: 1 } } } });
    age(repository, 2 * DAY);
    const [freed] = documents('collect');
    expect(freed).toMatchObject({ deleted: { packs: { objects: 1 }, versions: { objects: 1 } } });
    expect(freed?.freedBytes).toBeGreaterThan(100);
  });

  it('says which record it cannot read, and deletes nothing', () => {
    mkdirSync(join(repository, 'volumes'), { recursive: true });
    writeFileSync(join(repository, 'volumes', 'vol-1'), '{}\n');
    const { status, stderr } = larder('collect');
    expect(status).toBe(5);
    expect(stderr).toContain('volumes/vol-1');
  });

  it.each([
    [['--grace', 'long'], 'such as 24h'],
    [['--keep-last', '0'], 'whole number'],
  ])('refuses %j', (options, help) => {
    const { status, stderr } = larder('collect', ...options);
    expect(status).toBe(2);
    expect(stderr).toContain(help);
  });
});
