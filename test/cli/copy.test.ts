import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { createWorld } from './support.ts';

const world = createWorld();
const at = (...names: string[]) => join(world.directory, ...names);
const version = (name: string) => world.documents('show', name).at(-1)!.version as string;

/** Makes a write to a file go wrong, as a disk would. */
function damage(file: string, where: number): void {
  const bytes = readFileSync(file);
  bytes[Math.floor((bytes.length - 1) * where)]! ^= 1;
  writeFileSync(file, bytes);
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

beforeAll(() => {
  mkdirSync(at('birds', 'sub'), { recursive: true });
  for (let i = 0; i < 20; i++) writeFileSync(at('birds', `f${i}`), `bird ${i} `.repeat(200));
  world.ok('repository', 'init');
  world.ok('import', at('birds'), 'birds', '-m', 'first', '--tag', 'v1');
  writeFileSync(at('birds', 'sub', 'new'), 'a new one '.repeat(100));
  world.ok('import', at('birds'), 'birds', '-m', 'second');
}, 60_000);

describe('larder copy', () => {
  it('carries a history, and has nothing to send the second time', () => {
    world.ok('repository', 'init', at('other'));
    expect(world.ok('copy', 'birds', at('other'))).toMatch(
      /birds@main is now version [0-9a-f]{12} in .*\nsent 2 versions/,
    );
    const [copied, { summary }] = world.documents('copy', 'birds', at('other')) as [object, { summary: object }];
    expect(copied).toMatchObject({ dataset: 'birds', branch: 'main', outcome: 'unchanged', version: version('birds') });
    expect(summary).toMatchObject({ names: 1, versions: 0, chunks: 0, bytes: 0 });
    const versions = (...where: string[]) => world.documents(...where, 'log', 'birds').map(({ version }) => version);
    expect(versions('--repository', at('other'))).toEqual(versions());
    world.ok('--repository', at('other'), 'verify', '--deep');
  });

  it('carries everything, only the last version, or under another name', () => {
    world.ok('repository', 'init', at('mirror'));
    expect(world.documents('copy', '--all', at('mirror')).at(-1)).toMatchObject({ summary: { names: 2 } });
    expect(world.ok('--repository', at('mirror'), 'list', 'birds')).toContain('v1');
    world.ok('repository', 'init', at('tip'));
    world.ok('copy', 'birds', at('tip'), '--depth', '1', '--as', 'sparrows@upstream');
    expect(world.documents('--repository', at('tip'), 'list', 'sparrows')).toMatchObject([{ branch: 'upstream' }]);
    world.ok('--repository', at('tip'), 'verify', '--deep');
  });

  it('refuses what would take something from the target, and says what to do', () => {
    const other = ['--repository', at('other')];
    writeFileSync(at('birds', 'theirs'), 'theirs '.repeat(100));
    world.ok(...other, 'import', at('birds'), 'birds');
    const ahead = world.larder('copy', 'birds', at('other'));
    expect(ahead.status).toBe(4);
    expect(ahead.stderr).toContain('the target is ahead');
    const nowhere = world.larder('copy', 'birds', at('nowhere'));
    expect(nowhere.status).toBe(3);
    expect(nowhere.stderr).toContain('larder repository init');
    expect(world.larder('copy', 'birds').status).toBe(2);
    expect(world.larder('copy', 'birds', world.env.LARDER_REPOSITORY!).status).toBe(2);
    expect(world.larder('copy', 'birds@main', at('other'), '--all').stderr).toContain("leave '@main' away");
    world.ok('copy', 'birds', at('other'), '--force');
    expect(world.documents(...other, 'show', 'birds').at(-1)).toMatchObject({ version: version('birds') });
  });
});

describe('larder repair', () => {
  it('mends a repository from another one, and ends with 5 where something stays damaged', () => {
    cpSync(world.env.LARDER_REPOSITORY!, at('hurt'), { recursive: true });
    const hurt = ['--repository', at('hurt')];
    for (const pack of filesBelow(at('hurt', 'packs'))) damage(pack, 1);
    expect(world.larder(...hurt, 'verify', '--deep').stderr).toContain('larder repair --from');
    const alone = world.larder(...hurt, 'repair');
    expect(alone.status).toBe(5);
    expect(alone.stdout).toMatch(/birds@(main|v1) {2}/);
    expect(alone.stderr).toContain('--from REPOSITORY');
    const documents = world.documents(...hurt, 'repair', '--from', world.env.LARDER_REPOSITORY!);
    expect(documents.at(-1)).toMatchObject({ summary: { damaged: 2, fetched: 2, remaining: 0 } });
    world.ok(...hurt, 'verify', '--deep');
    expect(world.ok(...hurt, 'repair')).toContain('nothing is damaged or missing');
  });

  it('mends files from the cache of this node', () => {
    cpSync(world.env.LARDER_REPOSITORY!, at('hurt2'), { recursive: true });
    const hurt = ['--repository', at('hurt2')];
    for (const pack of filesBelow(at('hurt2', 'packs'))) damage(pack, 1);
    for (const name of ['f9', 'sub/new']) {
      const bytes = readFileSync(at('birds', name));
      const id = createHash('sha256').update(bytes).digest('hex');
      mkdirSync(join(world.env.LARDER_CACHE!, 'objects', id.slice(0, 2)), { recursive: true });
      writeFileSync(join(world.env.LARDER_CACHE!, 'objects', id.slice(0, 2), id), bytes);
    }
    expect(world.documents(...hurt, 'repair', '--from-cache').at(-1)).toMatchObject({ summary: { remaining: 0 } });
    world.ok(...hurt, 'verify', '--deep');
  });

  it('verifies and repairs only what it is asked for', () => {
    expect(world.ok('verify', 'birds@v1', '--deep')).toContain('nothing is damaged');
    expect(world.larder('verify', 'birds@v2').status).toBe(3);
    expect(world.larder('repair', 'bird').stderr).toContain("did you mean 'birds'?");
  });
});
