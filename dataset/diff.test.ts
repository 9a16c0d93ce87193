import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collect } from '../test/support/collect.ts';
import type { ByteString } from './byte-string.ts';
import { diffVersions } from './diff.ts';
import type { Digest } from './digest.ts';
import type { Entry } from './entry.ts';
import { type EntryChange, editManifest, readSegments } from './manifest.ts';
import { initRepository, type Repository } from './repository.ts';

let directory: string;
let repository: Repository;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'larder-diff-'));
  repository = await initRepository(directory);
});

afterAll(async () => {
  await repository.bucket.close();
  rmSync(directory, { recursive: true });
});

describe('comparing two trees', () => {
  it('reads segments that differ before their turn, and those only', async () => {
    const entry = (path: string, value: number): Entry => ({
      ...{ path: path as ByteString, mode: 0o644, uid: 0, gid: 0, mtimeSeconds: value, mtimeNanos: 0 },
      ...(path === '' ? { type: 'directory' } : { type: 'symlink', target: 'x' as ByteString }),
    });
    const build = async (changed: (i: number) => boolean) => {
      const paths = ['', ...Array.from({ length: 20_000 }, (_, i) => `f${String(i).padStart(6, '0')}`)];
      async function* puts(): AsyncGenerator<EntryChange[]> {
        yield paths.map((path, i) => ({ kind: 'put', entry: entry(path, changed(i) ? 1 : 0) }));
      }
      return (await editManifest(repository, undefined, puts())).root;
    };
    const [before, after] = [await build(() => false), await build((i) => i % 1000 === 500)];
    const read: string[] = [];
    let [underway, most] = [0, 0];
    const watched: Repository = {
      ...repository,
      bucket: new Proxy(repository.bucket, {
        get(bucket, name) {
          const value = Reflect.get(bucket, name) as unknown;
          if (name !== 'get') return typeof value === 'function' ? value.bind(bucket) : value;
          return async (key: string, options: object) => {
            read.push(key);
            most = Math.max(most, ++underway);
            await new Promise((resolve) => setTimeout(resolve, 5));
            return await bucket.get(key, options).finally(() => underway--);
          };
        },
      }),
    };
    const found = await collect(diffVersions(watched, before, after));
    expect(found).toHaveLength(20);
    expect(new Set(read).size).toBe(read.length);
    const of = async (root: Digest) => (await collect(readSegments(repository, root))).map(({ digest }) => digest);
    const shared = new Set(await of(before)).intersection(new Set(await of(after)));
    expect(shared.size).toBeGreaterThan(20);
    expect(read.filter((key) => shared.has(key.slice(-64) as Digest))).toEqual([]);
    expect(most).toBeGreaterThan(8);
  });

  it('takes none for an empty tree', async () => {
    async function* puts(): AsyncGenerator<EntryChange[]> {
      const common = { mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanos: 0 };
      yield [{ kind: 'put', entry: { type: 'directory', path: '' as ByteString, ...common } }];
    }
    const { root } = await editManifest(repository, undefined, puts());
    expect(await collect(diffVersions(repository, undefined, root))).toMatchObject([{ kind: 'added', leaf: root }]);
    expect(await collect(diffVersions(repository, root, undefined))).toMatchObject([{ kind: 'removed' }]);
    expect(await collect(diffVersions(repository, undefined, undefined))).toEqual([]);
  });
});
