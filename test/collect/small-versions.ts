import { readdirSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { bytesOf } from '../../dataset/byte-string.ts';
import { type Digest, sha256 } from '../../dataset/digest.ts';
import type { Entry } from '../../dataset/entry.ts';
import { type ChunkLocation, writeLocations } from '../../dataset/location.ts';
import { chunksOf, editManifest, isIndex, readAnySegment } from '../../dataset/manifest.ts';
import { PackBuilder, readPackIndex } from '../../dataset/pack.ts';
import { comparePaths } from '../../dataset/path.ts';
import type { Repository } from '../../dataset/repository.ts';
import { readVersion, type Version, writeVersion } from '../../dataset/version.ts';

/** For tests: makes versions of small trees without threads or files, storing each chunk once per maker. */
export class VersionMaker {
  readonly #repository: Repository;
  /** Where chunks lie that this maker stored. */
  readonly places = new Map<Digest, ChunkLocation>();

  constructor(repository: Repository) {
    this.#repository = repository;
  }

  /** @param files contents by path; directories come of themselves */
  async make(
    files: ReadonlyMap<string, string>,
    fields: { readonly parents?: readonly Digest[]; readonly time?: string; readonly from?: Version['from'] } = {},
  ): Promise<Version> {
    const entries = entriesOf(files);
    const builder = new PackBuilder(this.#repository, {
      onPack: (_pack, locations) => {
        for (const location of locations) this.places.set(location.id, location);
      },
    });
    const adding = new Set<Digest>();
    for (const text of files.values()) {
      const bytes = Buffer.from(text);
      const id = sha256(bytes);
      if (this.places.has(id) || adding.has(id)) continue;
      adding.add(id);
      await builder.add({ id, length: bytes.length, codec: 'raw', bytes, wholeFile: true });
    }
    await builder.flush();
    const changes = async function* () {
      yield entries.map((entry) => ({ kind: 'put' as const, entry }));
    };
    const { root, ...totals } = await editManifest(this.#repository, undefined, changes(), {
      leaf: async ({ digest, chunks }) =>
        await writeLocations(
          this.#repository,
          digest,
          chunks.map(({ id }) => this.places.get(id)!),
        ),
    });
    return await writeVersion(this.#repository, {
      root,
      parents: fields.parents ?? [],
      author: 'a test',
      time: fields.time,
      message: '',
      meta: {},
      ...(fields.from && { from: fields.from }),
      entries: totals.entries,
      bytes: totals.bytes,
    });
  }
}

function entriesOf(files: ReadonlyMap<string, string>): Entry[] {
  const attributes = { mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 1_700_000_000, mtimeNanos: 0 };
  const entries = new Map<string, Entry>([['', { type: 'directory', path: bytesOf(''), ...attributes }]]);
  for (const [path, text] of files) {
    const parts = path.split('/');
    for (let i = 1; i < parts.length; i++) {
      const folder = parts.slice(0, i).join('/');
      entries.set(folder, { type: 'directory', path: bytesOf(folder), ...attributes });
    }
    const content = { kind: 'chunk' as const, id: sha256(Buffer.from(text)) };
    entries.set(path, { type: 'file', path: bytesOf(path), ...attributes, size: Buffer.byteLength(text), content });
  }
  return [...entries.values()].sort((a, b) => comparePaths(a.path, b.path));
}

/** Lets everything in a repository in a directory look so much older, in milliseconds. */
export function age(directory: string, milliseconds: number): void {
  const then = (Date.now() - milliseconds) / 1000;
  for (const item of readdirSync(directory, { withFileTypes: true, recursive: true }))
    if (item.isFile()) utimesSync(join(item.parentPath, item.name), then, then);
}

/** The keys of all that versions need, found the plain way; each chunk that a version has is checked to be where its locations say. */
export async function neededKeys(repository: Repository, versions: Iterable<Digest>): Promise<Set<string>> {
  const { readLocations } = await import('../../dataset/location.ts');
  const keys = new Set<string>();
  const spread = (kind: string, id: Digest) => `${kind}/${id.slice(0, 2)}/${id}`;
  const visit = async (digest: Digest): Promise<void> => {
    if (keys.has(spread('segments', digest))) return;
    keys.add(spread('segments', digest));
    if ((await repository.bucket.head(spread('segments', digest))) === undefined) throw new Error(`${digest} is gone`);
    const segment = await readAnySegment(repository, digest);
    if (isIndex(segment)) {
      for (const child of segment.children) await visit(child.digest);
      return;
    }
    if (chunksOf(segment).length === 0) return;
    keys.add(spread('locations', digest));
    for (const { id, pack, offset, stored } of (await readLocations(repository, digest)).values()) {
      keys.add(spread('packs', pack));
      const found = (await readPackIndex(repository, pack)).find((entry) => entry.offset === offset);
      if (found?.id !== id || found.stored !== stored) throw new Error(`chunk ${id} is not in pack ${pack}`);
    }
  };
  for (const id of versions) {
    const { root } = await readVersion(repository, id);
    keys.add(spread('versions', id));
    await visit(root);
  }
  return keys;
}

/** The keys of all data in a repository. */
export async function dataKeys({ bucket }: Repository): Promise<Set<string>> {
  const keys = new Set<string>();
  for (const prefix of ['versions/', 'segments/', 'locations/', 'packs/'])
    for await (const { key } of bucket.list(prefix)) keys.add(key);
  return keys;
}
