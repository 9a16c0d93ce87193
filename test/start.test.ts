import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Cache, openCache } from '../cache/cache.ts';
import { createCapacity } from '../cache/capacity.ts';
import { type CacheIndex, openIndex } from '../cache/index.ts';
import { fans } from '../cache/layout.ts';
import { createRoom, openRoom } from '../cache/room.ts';
import { testBook } from '../cache/version-book.fixture.ts';
import { sha256 } from '../dataset/digest.ts';

const root = resolve(import.meta.dirname, '..');

/** What a module imports when it is loaded; types are not loaded, and `import()` is loaded by who comes there. */
const IMPORT = /^(?:import|export)\s+(?!type\s)(?:[^;']*?\sfrom\s+)?'([^']+)'/gm;

/** All that is loaded with a module: our files by their paths, everything else by its name. */
function loadedWith(entry: string): Set<string> {
  const found = new Set<string>();
  const waiting = [entry];
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (found.has(file)) continue;
    found.add(file);
    if (!file.endsWith('.ts')) continue;
    for (const [, name] of readFileSync(join(root, file), 'utf8').matchAll(IMPORT)) {
      waiting.push(name!.startsWith('.') ? relative(root, resolve(root, dirname(file), name!)) : name!);
    }
  }
  return found;
}

/** What nobody needs to serve the ring from a directory: some of it takes longer to load than all that is needed. */
const NOT_TO_SERVE = [
  // Loads undici with it: docs/decisions/start.md.
  'node:http',
  'node:https',
  'better-sqlite3',
  'prom-client',
  '@opentelemetry/api',
  '@aws-sdk/client-s3',
  '@grpc/grpc-js',
  'commander',
  'dataset/bucket/s3.ts',
  'dataset/commit.ts',
  'cache/neighbours/neighbours.ts',
  'cache/scrub.ts',
  'mount/erofs/image.ts',
  'node/server.ts',
  'node/observation.ts',
];

describe('what is loaded', () => {
  it.each([
    ['the daemon until it serves', 'node/node.ts', 'mount/keeper-ring.ts'],
    ['a thread of the cache', 'cache/crew-worker.ts', 'cache/object-writer.ts'],
    ['a thread of the ring', 'mount/fuse/session-reader.ts', 'system/calls-fuse.ts'],
  ])('by %s is nothing that it does not need', (_, entry, needed) => {
    const loaded = loadedWith(entry);
    expect(loaded).toContain(needed);
    expect(NOT_TO_SERVE.filter((name) => loaded.has(name))).toEqual([]);
  });

  it('by the daemon comes behind the ring for all else', () => {
    const whole = [
      ...loadedWith('node/observation.ts'),
      ...loadedWith('node/server.ts'),
      ...loadedWith('node/scrub.ts'),
    ];
    for (const name of ['node:http', 'prom-client', 'cache/scrub.ts']) expect(whole).toContain(name);
    const behind = [...readFileSync(join(root, 'node/daemon.ts'), 'utf8').matchAll(/import\('([^']+)'\)/g)];
    expect(behind.map(([, name]) => name)).toEqual(expect.arrayContaining(['./observation.ts', './server.ts']));
  });

  it('by a command is that command, and no other', () => {
    const loaded = ranWith('list', '--help').filter((file) => file.startsWith('cli/commands/'));
    expect(loaded).toEqual(['cli/commands/list.ts']);
  });

  it('to say the version is no command', () => {
    const loaded = ranWith('--version');
    expect(loaded).toContain('cli/program.ts');
    expect(loaded.filter((file) => /^(cli\/commands|mount|node)\//.test(file))).toEqual([]);
  });
});

/** Our files that a command line loads. */
function ranWith(...args: string[]): string[] {
  const tell = `import { registerHooks } from 'node:module';
    registerHooks({ load(url, context, next) { process.stderr.write('loads ' + url + '\\n'); return next(url, context); } });`;
  const hook = `data:text/javascript,${encodeURIComponent(tell)}`;
  const argv = ['--import', hook, join(root, 'bin', 'larder.mjs'), ...args];
  const { stderr, status } = spawnSync(process.execPath, argv, { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  const urls = [...stderr.matchAll(/^loads file:\/\/(.*)$/gm)].map(([, path]) => relative(root, path!));
  return urls.filter((path) => path.endsWith('.ts'));
}

describe('a start with objects in the cache', () => {
  let directory: string;
  let cache: Cache;
  let index: CacheIndex | undefined;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'larder-start-'));
    cache = await openCache({ directory });
    const writer = cache.writer();
    for (let at = 0; at < 50; at += 1) writer.put(sha256(`${at}`), Buffer.from(`${at}`));
    writer.close();
    await cache.close();
  });
  afterEach(async () => {
    await index?.close();
    await cache.close();
    rmSync(directory, { recursive: true, force: true });
  });

  /** Reading a folder moves its time of access on, where that is older than the last change. */
  const LONG_AGO = new Date('2001-01-01');
  const folders = () =>
    [cache.layout.objects, cache.layout.late].flatMap((store) => [...fans()].map((fan) => join(store, fan)));
  const read = () => folders().filter((folder) => statSync(folder).atimeMs !== LONG_AGO.getTime());

  it('reads no folder of them before the ring is served, and knows its room', async () => {
    for (const folder of folders()) {
      mkdirSync(folder, { recursive: true });
      utimesSync(folder, LONG_AGO, new Date());
    }
    const served = Promise.withResolvers<void>();
    cache = await openCache({ directory });
    index = openIndex(cache, { after: served.promise });
    const room = createRoom();
    const limits = { minFree: { bytes: 0 } };
    await using capacity = createCapacity({ cache, index, book: testBook(), room, limits, after: served.promise });
    await capacity.ready;
    expect(openRoom(room).bytes).toBe(capacity.stats().diskFree);
    expect(read()).toEqual([]);

    served.resolve();
    await index.settled;
    expect(read().length).toBeGreaterThan(200);
    expect(index.totals().objects).toBe(50);
  });
});
