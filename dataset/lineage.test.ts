import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collect } from '../test/support/collect.ts';
import type { ByteString } from './byte-string.ts';
import { type Digest, sha256 } from './digest.ts';
import { log, pathHistory } from './history.ts';
import { versionKey } from './keys.ts';
import { type LineageNode, lineage, resolveOrigins } from './lineage.ts';
import { editManifest } from './manifest.ts';
import { moveBranch } from './refs.ts';
import { initRepository, type Repository } from './repository.ts';
import { type Version, writeVersion } from './version.ts';

let directory: string;
let repository: Repository;
let root: Digest;
let made = 0;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'larder-lineage-'));
  repository = await initRepository(directory);
  async function* puts() {
    const entry = { type: 'directory', path: '' as ByteString, mode: 0o755, uid: 0, gid: 0 } as const;
    yield [{ kind: 'put', entry: { ...entry, mtimeSeconds: 0, mtimeNanos: 0 } } as const];
  }
  ({ root } = await editManifest(repository, undefined, puts()));
});

afterAll(async () => {
  await repository.bucket.close();
  rmSync(directory, { recursive: true });
});

describe('lineage', () => {
  it('follows what each version was made from, across datasets, and shows each once', async () => {
    const raw = await version();
    const [train, test] = [await version({ from: { raw } }), await version({ from: { raw } })];
    const model = await version({ from: { train, test } });
    expect(outline(await lineage(repository, { dataset: 'model', version: model.id }))).toEqual([
      'model',
      ['train', ['raw']],
      ['test', ['raw shown']],
    ]);
  });

  it('takes what the nearest version before tells, where one tells nothing', async () => {
    const [old, data] = [await version(), await version()];
    const first = await version({ from: { old } });
    const second = await version({ parents: [first], from: { data } });
    const third = await version({ parents: [await version({ parents: [second] })] });
    const tree = await lineage(repository, { dataset: 'model', version: third.id });
    expect(outline(tree)).toEqual(['model', ['data']]);
    expect(tree.through?.id).toBe(second.id);
    expect(outline(await lineage(repository, { dataset: 'model', version: old.id }))).toEqual(['model']);
  });

  it('shows what is gone as gone, and ends where it was told to', async () => {
    const gone = await version();
    const data = await version({ from: { gone } });
    const model = await version({ from: { data } });
    await repository.bucket.delete(versionKey(gone.id));
    const origin = { dataset: 'model', version: model.id };
    expect(outline(await lineage(repository, origin))).toEqual(['model', ['data', ['gone missing']]]);
    expect(outline(await lineage(repository, origin, { limit: 2 }))).toEqual(['model', ['data', ['gone limit']]]);
  });

  it('is written with names as they are now, each version once', async () => {
    const { id } = await version();
    await moveBranch(repository, 'raw', 'main', { expect: 'absent', version: id });
    await moveBranch(repository, 'raw', 'copy', { expect: 'absent', version: id });
    expect(await resolveOrigins(repository, ['raw', 'raw@copy', `raw@${id}`])).toEqual([
      { dataset: 'raw', version: id },
    ]);
    await expect(resolveOrigins(repository, ['war'])).rejects.toThrow("there is no dataset 'war'");
  });
});

describe('history', () => {
  it('ends where a version is not there, and tells so', async () => {
    const gone = await version();
    const kept = await version({ parents: [gone] });
    const head = await version({ parents: [kept] });
    await repository.bucket.delete(versionKey(gone.id));
    const missing: string[] = [];
    const found = await collect(log(repository, head.id, undefined, (id, child) => missing.push(`${id} ${child.id}`)));
    expect(found.map(({ id }) => id)).toEqual([head.id, kept.id]);
    expect(missing).toEqual([`${gone.id} ${kept.id}`]);
    const changes = await collect(pathHistory(repository, head.id, '' as ByteString));
    expect(changes.map(({ change, version: { id } }) => [change, id])).toEqual([['added', kept.id]]);
  });
});

/** The tree as nested lists of datasets' names. */
function outline({ origin, version, cut, from }: LineageNode): unknown[] {
  const state = cut ?? (version === undefined ? 'missing' : undefined);
  return [state === undefined ? origin.dataset : `${origin.dataset} ${state}`, ...from.map(outline)];
}

async function version(
  options: { readonly parents?: readonly Version[]; readonly from?: Readonly<Record<string, Version>> } = {},
): Promise<Version> {
  const { parents = [], from = {} } = options;
  return await writeVersion(repository, {
    ...{ root, author: 'a', message: `${made++}`, meta: { tree: sha256('') }, entries: 1, bytes: 0 },
    parents: parents.map(({ id }) => id),
    from: Object.entries(from).map(([dataset, { id }]) => ({ dataset, version: id })),
  });
}
