import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { describeRepositories, overwrite } from '../test/support/repositories.ts';
import { bytesOf } from './byte-string.ts';
import { type ChunkIndex, chunkIndexFile, openChunkIndex, openChunkIndexReader } from './chunk-index.ts';
import { type Digest, sha256 } from './digest.ts';
import type { Entry } from './entry.ts';
import { CorruptError } from './errors.ts';
import { locationsKey, segmentKey } from './keys.ts';
import { type ChunkLocation, readLocations, writeLocations } from './location.ts';
import { editManifest } from './manifest.ts';
import { PackBuilder } from './pack.ts';
import { initRepository, type Repository } from './repository.ts';
import { stateDirectory } from './state-directory.ts';

let directory: string;
let repository: Repository;
let state: { readonly directory: string };

describeRepositories('the chunk index', (make) => {
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'larder-index-'));
    repository = await initRepository(await make());
    state = { directory: join(directory, 'state') };
  });

  afterEach(async () => {
    await repository.bucket.close();
    await rm(directory, { recursive: true });
  });

  test('an index that was deleted is rebuilt from the locations in the repository', async () => {
    const { locations } = await store('f', 1000);
    const index = openChunkIndex(repository, state);
    const first = await index.refresh(repository);
    expect(first).toMatchObject({ chunks: 1000, failures: [] });
    expectAll(index, locations);
    index.close();
    for (const suffix of ['', '-wal', '-shm'])
      await rm(chunkIndexFile(repository.id, state.directory) + suffix, { force: true });
    const rebuilt = openChunkIndex(repository, state);
    expect(rebuilt.size).toBe(0);
    await rebuilt.refresh(repository);
    expectAll(rebuilt, locations);
    rebuilt.close();
  });

  test('a refresh reads only what others have added since', async () => {
    const index = openChunkIndex(repository, state);
    const before = await store('f', 500);
    await index.refresh(repository);
    expect(await index.refresh(repository)).toMatchObject({ segments: 0, chunks: 0 });
    const after = await store('g', 500);
    expect(await index.refresh(repository)).toMatchObject({ chunks: 500 });
    expectAll(index, new Map([...before.locations, ...after.locations]));
    index.close();
  });

  test('a damaged segment is reported, and what a crash left before its segment is passed over', async () => {
    const { segments, locations } = await store('f', 1000);
    const index = openChunkIndex(repository, state);
    await overwrite(repository, segmentKey(segments[0]!), Buffer.from('x'));
    await repository.bucket.delete(segmentKey(segments[1]!));
    await overwrite(repository, locationsKey(segments[2]!), Buffer.from('x'));
    const { failures } = await index.refresh(repository);
    expect(failures.map(({ message }) => message).sort()).toEqual([
      expect.stringContaining(`locations of segment ${segments[2]} is damaged`),
      expect.stringContaining(`segment ${segments[0]} is damaged`),
    ]);
    expect(index.size).toBeLessThan(locations.size);
    expect(index.size).toBeGreaterThan(0);
    index.close();
  });

  test('a file that is no database is replaced, and one of another schema emptied', async () => {
    const file = chunkIndexFile(repository.id, state.directory);
    openChunkIndex(repository, state).close();
    await writeFile(file, 'this is not a database, whatever its name says, and it is long enough to be looked at');
    const index = openChunkIndex(repository, state);
    const [location] = (await store('f', 10)).locations.values();
    index.insert([location!]);
    expect(index.find(location!.id)).toEqual(location);
    index.close();
  });

  test('chunks of a pack that is gone can be forgotten', async () => {
    const { locations } = await store('f', 400, 30_000);
    const index = openChunkIndex(repository, state);
    index.insert(locations.values());
    const [first] = locations.values();
    const lost = [...locations.values()].filter(({ pack }) => pack === first!.pack);
    expect(lost.length).toBeLessThan(400);
    expect(index.forgetPack(first!.pack)).toBe(lost.length);
    expect(index.find(first!.id)).toBeUndefined();
    expect(index.size).toBe(400 - lost.length);
    expect(index.forgetPack(first!.pack)).toBe(0);
    index.clear();
    expect(index.size).toBe(0);
    index.close();
  });

  test('many packs are forgotten at once, and unknown ones among them are no matter', async () => {
    const { locations } = await store('f', 400, 30_000);
    const index = openChunkIndex(repository, state);
    index.insert(locations.values());
    const packs = new Set([...locations.values()].map(({ pack }) => pack));
    const [kept, ...gone] = packs;
    expect(gone.length).toBeGreaterThan(2);
    const lost = [...locations.values()].filter(({ pack }) => pack !== kept);
    expect(index.forgetPacks([sha256('no such pack'), ...gone, ...gone])).toBe(lost.length);
    for (const { id, pack } of locations.values()) expect(index.find(id)?.pack).toBe(pack === kept ? kept : undefined);
    expect(index.forgetPacks(gone)).toBe(0);
    index.insert(lost);
    expectAll(index, locations);
    index.close();
  });

  test('of a chunk in two packs the new place is known', () => {
    const index = openChunkIndex(repository, state);
    const place: ChunkLocation = { id: sha256('c'), pack: sha256('p'), offset: 9, stored: 5, length: 5, codec: 'raw' };
    index.insertSegment(sha256('s'), [place]);
    index.insert([{ ...place, pack: sha256('q'), offset: 70 }]);
    expect(index.find(place.id)).toMatchObject({ pack: sha256('q'), offset: 70 });
    expect(index.find(sha256('other'))).toBeUndefined();
    index.close();
  });

  test('a worker thread looks up what the main thread inserts', async () => {
    const index = openChunkIndex(repository, state);
    const place: ChunkLocation = { id: sha256('c'), pack: sha256('p'), offset: 9, stored: 3, length: 5, codec: 'zstd' };
    index.insert([place]);
    index.flush();
    const source = `
    import { parentPort, workerData } from 'node:worker_threads';
    const { openChunkIndexReader } = await import(workerData.module);
    using lookup = openChunkIndexReader({ id: workerData.id }, workerData.state);
    parentPort.postMessage(lookup.find(workerData.chunk));`;
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
      workerData: {
        module: new URL('./chunk-index.ts', import.meta.url).href,
        id: repository.id,
        state,
        chunk: place.id,
      },
    });
    const found = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    expect(found).toEqual(place);
    await worker.terminate();
    index.close();
  });

  test('what was learned is kept when the index is closed, and found before', () => {
    const index = openChunkIndex(repository, state);
    const places = Array.from({ length: 40_000 }, (_, i): ChunkLocation => {
      return { id: sha256(`${i}`), pack: sha256(`p${i % 7}`), offset: 9 + i, stored: 3, length: 5, codec: 'zstd' };
    });
    for (let i = 0; i < places.length; i += 1000) {
      index.insert(places.slice(i, i + 1000));
      expect(index.find(places[i]!.id)).toEqual(places[i]);
      expect(index.find(places[i >> 1]!.id)).toEqual(places[i >> 1]);
    }
    index.insertSegment(sha256('s'), []);
    index.close();
    using again = openChunkIndex(repository, state);
    expectAll(again, new Map(places.map((place) => [place.id, place])));
  });

  test('two who learn at once both learn', async () => {
    using one = openChunkIndex(repository, state);
    using other = openChunkIndex(repository, state);
    const place = (name: string): ChunkLocation => {
      return { id: sha256(name), pack: sha256('p'), offset: 9, stored: 5, length: 5, codec: 'raw' };
    };
    for (let i = 0; i < 50; i++) {
      one.find(sha256('x'));
      other.find(sha256('x'));
      one.insert([place(`one ${i}`)]);
      other.insert([place(`other ${i}`)]);
      one.flush();
      other.flush();
    }
    expect(one.size).toBe(100);
    await new Promise((resolve) => setImmediate(resolve));
    expect(one.find(sha256('other 49'))).toEqual(place('other 49'));
  });

  test('a reader of an index that nobody made finds none', () => {
    expect(openChunkIndexReader(repository, state)).toBeUndefined();
  });

  test('locations that are missing are told apart from none', async () => {
    const { segments } = await store('f', 100);
    await repository.bucket.delete(locationsKey(segments[0]!));
    const reading = readLocations(repository, segments[0]!);
    await expect(reading).rejects.toThrow(CorruptError);
    await expect(reading).rejects.toThrow(`locations of segment ${segments[0]} are missing`);
    const empty = await editManifest(repository, undefined, batch([directoryEntry]));
    expect((await readLocations(repository, empty.root)).size).toBe(0);
  });

  test('what is known of repositories is kept where the user keeps data', () => {
    expect(stateDirectory({ LARDER_STATE: '/s', XDG_DATA_HOME: '/d' })).toBe('/s');
    expect(stateDirectory({ XDG_DATA_HOME: '/d' })).toBe('/d/larder');
    expect(stateDirectory({})).toBe(
      process.getuid?.() === 0 ? '/var/lib/larder' : expect.stringContaining('share/larder'),
    );
  });
});

const directoryEntry: Entry = {
  type: 'directory',
  path: bytesOf(''),
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtimeSeconds: 0,
  mtimeNanos: 0,
};

/** Stores a tree of `count` files of some hundred bytes, with packs, locations and segments. */
async function store(name: string, count: number, target = 100_000) {
  const locations = new Map<Digest, ChunkLocation>();
  const builder = new PackBuilder(repository, {
    target,
    onPack: (_, places) => {
      for (const place of places) locations.set(place.id, place);
    },
  });
  const entries: Entry[] = [directoryEntry];
  for (let i = 0; i < count; i++) {
    const bytes = Buffer.from(`${name} ${i} `.repeat(40));
    const id = sha256(bytes);
    await builder.add({ id, length: bytes.length, codec: 'raw', bytes, wholeFile: true });
    const path = bytesOf(`${name}${String(i).padStart(5, '0')}`);
    entries.push({ ...directoryEntry, type: 'file', path, size: bytes.length, content: { kind: 'chunk', id } });
  }
  await builder.flush();
  const segments: Digest[] = [];
  await editManifest(repository, undefined, batch(entries), {
    leaf: async ({ digest, chunks }) => {
      segments.push(digest);
      await writeLocations(
        repository,
        digest,
        chunks.map(({ id }) => locations.get(id)!),
      );
    },
  });
  return { locations, segments };
}

async function* batch(entries: readonly Entry[]) {
  yield entries.map((entry) => ({ kind: 'put' as const, entry }));
}

function expectAll(index: ChunkIndex, locations: ReadonlyMap<Digest, ChunkLocation>): void {
  expect(index.size).toBe(locations.size);
  for (const location of locations.values()) expect(index.find(location.id)).toEqual(location);
}
