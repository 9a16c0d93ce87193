import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Bucket } from '../dataset/bucket/bucket.ts';
import { bytesOf } from '../dataset/byte-string.ts';
import { type Digest, sha256 } from '../dataset/digest.ts';
import type { Content, Entry, Part } from '../dataset/entry.ts';
import { partsId } from '../dataset/format/parts.ts';
import { type ChunkLocation, writeLocations } from '../dataset/location.ts';
import { type EntryChange, editManifest, readSegment, readSegments } from '../dataset/manifest.ts';
import { PackBuilder } from '../dataset/pack.ts';
import { initRepository, type Repository } from '../dataset/repository.ts';
import { openCache } from './cache.ts';
import type { StagedSource } from './segment-reader.ts';
import { loadStageMap } from './stage-map.ts';
import { StageMapBuilder } from './stage-map-builder.ts';

/** A file of a test's version: its bytes as one chunk, or parts, where a number is a hole of that length. */
export type FileOf = Buffer | readonly (Buffer | number)[];

export interface BuiltVersion {
  readonly staged: StagedSource;
  readonly packs: readonly Digest[];
  /** Content id and bytes of each file, by path. */
  readonly files: ReadonlyMap<string, { readonly id: Digest; readonly bytes: Buffer }>;
}

/** A repository in a directory of its own, which goes with it. */
export async function temporaryRepository(): Promise<{ repository: Repository; folder: string } & AsyncDisposable> {
  const folder = mkdtempSync(join(tmpdir(), 'larder-cache-test-'));
  const repository = await initRepository(join(folder, 'repository'));
  return {
    repository,
    folder,
    [Symbol.asyncDispose]: async () => {
      await repository.bucket.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A repository whose reads are counted, and an empty cache beside it: both go with the stack. */
export async function countedCache(stack: AsyncDisposableStack) {
  const { folder, repository } = stack.use(await temporaryRepository());
  const bucket = countingBucket(repository.bucket);
  const cache = stack.use(await openCache({ directory: join(folder, 'cache') }));
  return { folder, bucket, repository: { ...repository, bucket }, cache };
}

/** Stores a version by the store's own means, without an import: files in one directory, packed in the order of their paths. */
export async function buildVersion(
  repository: Repository,
  files: Readonly<Record<string, FileOf>>,
  { target }: { target?: number } = {},
): Promise<BuiltVersion> {
  const locations = new Map<Digest, ChunkLocation>();
  const builder = new PackBuilder(repository, {
    target,
    onPack: (_, chunks) => {
      for (const chunk of chunks) locations.set(chunk.id, chunk);
    },
  });
  const packed = new Set<Digest>();
  const pack = async (bytes: Buffer, wholeFile: boolean): Promise<Digest> => {
    const id = sha256(bytes);
    if (!packed.has(id)) await builder.add({ id, length: bytes.length, codec: 'raw', bytes, wholeFile });
    packed.add(id);
    return id;
  };
  const about = { mode: 0o644, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanos: 0 };
  const entries: Entry[] = [{ ...about, type: 'directory', path: bytesOf(''), mode: 0o755 }];
  const built = new Map<string, { id: Digest; bytes: Buffer }>();
  for (const path of Object.keys(files).sort()) {
    const file = files[path]!;
    const runs: readonly (Buffer | number)[] = Buffer.isBuffer(file) ? [file] : (file as readonly (Buffer | number)[]);
    const bytes = Buffer.concat(runs.map((run) => (typeof run === 'number' ? Buffer.alloc(run) : run)));
    let content: Content;
    if (Buffer.isBuffer(file)) {
      content = { kind: 'chunk', id: await pack(file, true) };
    } else {
      const parts: Part[] = [];
      for (const run of runs) {
        parts.push(typeof run === 'number' ? { length: run } : { length: run.length, chunk: await pack(run, false) });
      }
      content = { kind: 'chunks', id: partsId(parts), parts };
    }
    built.set(path, { id: content.id, bytes });
    entries.push({ ...about, type: 'file', path: bytesOf(path), size: bytes.length, content });
  }
  await builder.flush();
  async function* changes(): AsyncGenerator<EntryChange[]> {
    yield entries.map((entry) => ({ kind: 'put', entry }));
  }
  const { root } = await editManifest(repository, undefined, changes(), {
    leaf: ({ digest, chunks }) =>
      writeLocations(
        repository,
        digest,
        chunks.map(({ id }) => locations.get(id)!),
      ),
  });
  const packs = [...new Set([...packed].map((id) => locations.get(id)!.pack))];
  return { staged: await stage(repository, root), packs, files: built };
}

/** What a node does to stage a manifest, but for the image. */
export async function stage(repository: Repository, root: Digest): Promise<StagedSource> {
  const file = join(mapsOf(repository), `${root}.map`);
  const builder = new StageMapBuilder(file);
  for await (const { digest } of readSegments(repository, root))
    builder.add(digest, await readSegment(repository, digest));
  builder.finish(root);
  return { repository, version: root, root, map: loadStageMap(file, root) };
}

/** Beside a repository in a directory, and so gone with it; else a directory that goes with the process. */
function mapsOf({ location }: Repository): string {
  if (location.startsWith('/')) {
    mkdirSync(`${location}-maps`, { recursive: true });
    return `${location}-maps`;
  }
  const directory = mkdtempSync(join(tmpdir(), 'larder-maps-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A bucket that counts its reads, and may be told to fail them. */
export interface CountingBucket extends Bucket {
  /** Reads by key. */
  readonly reads: Map<string, number>;
  /** Of them, those without a range. */
  readonly wholeReads: Map<string, number>;
  readonly bytesRead: number;
  /** Reads under way now, and the most that were. */
  readonly underway: number;
  readonly mostUnderway: number;
  /** Called before each read; what it throws is what the read throws. */
  before: (key: string) => Promise<void> | void;
  readsOf(prefix: string): number;
}

export function countingBucket(inner: Bucket): CountingBucket {
  const reads = new Map<string, number>();
  const wholeReads = new Map<string, number>();
  let bytesRead = 0;
  let underway = 0;
  let mostUnderway = 0;
  const counting: CountingBucket = {
    name: inner.name,
    reads,
    wholeReads,
    get bytesRead() {
      return bytesRead;
    },
    get underway() {
      return underway;
    },
    get mostUnderway() {
      return mostUnderway;
    },
    before: () => {},
    readsOf: (prefix) => [...reads].reduce((sum, [key, count]) => (key.startsWith(prefix) ? sum + count : sum), 0),
    get: async (key, options) => {
      reads.set(key, (reads.get(key) ?? 0) + 1);
      if (!options?.range) wholeReads.set(key, (wholeReads.get(key) ?? 0) + 1);
      await counting.before(key);
      const object = await inner.get(key, options);
      async function* counted(): AsyncGenerator<Buffer> {
        if (key.startsWith('packs/')) underway += 1;
        mostUnderway = Math.max(mostUnderway, underway);
        try {
          for await (const block of object.body) {
            bytesRead += block.length;
            yield block;
          }
        } finally {
          if (key.startsWith('packs/')) underway -= 1;
        }
      }
      return { ...object, body: counted() };
    },
    head: (key, signal) => inner.head(key, signal),
    put: (key, body, options) => inner.put(key, body, options),
    list: (prefix, options) => inner.list(prefix, options),
    delete: (key, options) => inner.delete(key, options),
    close: () => inner.close(),
  };
  return counting;
}

/** `count` files of `size` bytes that no compression shrinks. */
export function randomFiles(count: number, size: number, folder = ''): Record<string, Buffer> {
  const files: Record<string, Buffer> = {};
  for (let at = 0; at < count; at += 1) files[`${folder}file-${String(at).padStart(6, '0')}`] = randomBytes(size);
  return files;
}
