import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { collect } from '../test/support/collect.ts';
import { describeRepositories, largestObject, withDamage } from '../test/support/repositories.ts';
import { counted, deepDamage, namesIn, TestHistory } from '../test/support/test-history.ts';
import { bytesOf } from './byte-string.ts';
import { commitChanges } from './commit.ts';
import { copyNames, copyVersions } from './copy.ts';
import type { Digest } from './digest.ts';
import { ConflictError, CorruptError, InvalidError } from './errors.ts';
import { sourceContent } from './format/source.ts';
import { log } from './history.ts';
import { PACKS, SEGMENTS, sourceKey, VERSIONS, versionKey } from './keys.ts';
import { findEntry } from './manifest.ts';
import { deleteBranch, readBranch, writeTag } from './refs.ts';
import { initRepository, openRepository, type Repository } from './repository.ts';
import { markShallow, readShallow } from './shallow.ts';
import { readVersion } from './version.ts';

let top: string;
let original: TestHistory;
let versions: Digest[];
beforeAll(async () => {
  top = mkdtempSync(join(tmpdir(), 'larder-copy-'));
  process.env.LARDER_STATE = join(top, 'state');
  const from = await initRepository(join(top, 'from'));
  original = new TestHistory(join(top, 'tree'), 7);
  versions = [];
  for (let i = 0; i < 4; i++) {
    if (i > 0) original.change();
    versions.push(await original.import(from, 'birds', 'main', `v${i}`));
  }
  await from.bucket.close();
}, 60_000);
afterAll(() => rmSync(top, { recursive: true, force: true }));

let round = 0;
beforeEach(() => {
  // Each test on a machine that knows nothing yet.
  process.env.LARDER_STATE = join(top, `state-${++round}`);
});
afterEach(() => {
  delete process.env.LARDER_STATE;
});

const keysIn = async (repository: Repository, prefix: string) =>
  (await collect(repository.bucket.list(prefix))).map(({ key }) => key);

describeRepositories('copying', (make) => {
  let from: Repository;
  let to: Repository;
  let history: TestHistory;

  beforeEach(async () => {
    cpSync(join(top, 'from'), join(top, `from-${round}`), { recursive: true });
    from = await openRepository(join(top, `from-${round}`));
    to = await initRepository(await make());
    history = original.copy(join(top, `tree-${round}`));
  });

  afterEach(async () => {
    await from.bucket.close();
    await to.bucket.close();
  });

  const copy = (more: object = {}) => copyVersions({ from, to, dataset: 'birds', ...more });

  it('carries a version with its history, and the ids stay the same', async () => {
    const result = await copy();
    expect(result).toMatchObject({
      outcome: 'created',
      kind: 'branch',
      name: 'main',
      version: versions[3],
      versions: 4,
    });
    expect(await namesIn(to, 'birds')).toEqual([`branch main ${versions[3]}`]);
    expect((await collect(log(to, versions[3]!))).map(({ id }) => id)).toEqual([...versions].reverse());
    expect(await deepDamage(to)).toEqual([]);
    expect(await keysIn(to, SEGMENTS)).toEqual(await keysIn(from, SEGMENTS));
    // Packs of which all was wanted are the very same.
    const packs = await keysIn(from, PACKS);
    expect(result.sent).toMatchObject({ wholePacks: packs.length, packs: 0 });
    expect(await keysIn(to, PACKS)).toEqual(packs);
  });

  it('sends nothing the second time, and asks little', async () => {
    await copy();
    const target = counted(to.bucket);
    const source = counted(from.bucket);
    const again = await copyVersions({
      from: { ...from, bucket: source.bucket },
      to: { ...to, bucket: target.bucket },
      dataset: 'birds',
    });
    expect(again).toMatchObject({ outcome: 'unchanged', versions: 0, sent: { chunks: 0, segments: 0 } });
    expect(target.counts).toMatchObject({ put: 0, bytes: 0, delete: 0 });
    expect(target.counts.get + target.counts.head + target.counts.list).toBeLessThanOrEqual(4);
    expect(source.counts.get + source.counts.head + source.counts.list).toBeLessThanOrEqual(4);
  });

  it('sends only the change when the source has gone on', async () => {
    await copy();
    history.write('d0/f0', 5000);
    const version = await history.import(from, 'birds');
    const target = counted(to.bucket);
    const result = await copy({ to: { ...to, bucket: target.bucket } });
    expect(result).toMatchObject({ outcome: 'moved', before: versions[3], version, versions: 1 });
    expect(result.sent.chunks).toBe(1);
    // One pack, the locations, the segments from leaf to root, the version, the branch.
    expect(target.counts.put).toBeLessThanOrEqual(6);
    expect(target.counts.bytes).toBeLessThan(20_000);
    expect(await deepDamage(to)).toEqual([]);
  });

  it('does not send what another dataset of the target has', async () => {
    await history.import(to, 'mammals');
    const before = await keysIn(to, PACKS);
    const { sent } = await copy({ ref: 'v3', depth: 1, as: { dataset: 'birds', branch: 'main' } });
    expect(sent.chunks).toBe(0);
    expect(await keysIn(to, PACKS)).toEqual(before);
    expect(await deepDamage(to)).toEqual([]);
  });

  it('packs chunks anew where little of their packs is wanted', async () => {
    // The last version alone: of the first one's pack most is wanted, of what came after only some.
    for (let i = 0; i < 40; i++) history.write(`d1/f${i}`, 9000);
    await history.import(from, 'birds', 'other');
    for (let i = 3; i < 40; i++) history.write(`d1/f${i}`, 9000);
    await history.import(from, 'birds', 'other');
    const { sent } = await copy({ ref: 'other', depth: 1 });
    expect(sent.packs).toBe(1);
    expect(await deepDamage(to)).toEqual([]);
    const result = await copy({ ref: 'other' });
    expect(result).toMatchObject({ outcome: 'unchanged' });
    expect(await deepDamage(to)).toEqual([]);
  });

  it('carries only the last versions, and the rest when it is asked for', async () => {
    const cut = await copy({ depth: 2 });
    expect(cut.versions).toBe(2);
    expect([...(await readShallow(to))]).toEqual([versions[2]]);
    expect((await keysIn(to, VERSIONS)).length).toBe(2);
    expect(await deepDamage(to)).toEqual([]);

    history.change();
    const last = await history.import(from, 'birds');
    expect(await copy({ depth: 1 })).toMatchObject({ versions: 1 });
    expect([...(await readShallow(to))]).toEqual([versions[2]]);

    const whole = await copy();
    expect(whole).toMatchObject({ outcome: 'unchanged', versions: 2 });
    expect((await readShallow(to)).size).toBe(0);
    expect((await collect(log(to, last))).map(({ id }) => id)).toEqual([...versions, last].reverse());
    expect(await deepDamage(to)).toEqual([]);
  });

  it('does not bring back what the target has given up', async () => {
    await copy();
    await markShallow(to, versions[2]!);
    for (const id of versions.slice(0, 2)) await to.bucket.delete(versionKey(id));
    history.change();
    await history.import(from, 'birds');
    expect(await copy()).toMatchObject({ outcome: 'moved', versions: 1 });
    expect((await keysIn(to, VERSIONS)).length).toBe(3);
    expect(await deepDamage(to)).toEqual([]);
    // What the source does not have any more is no damage in the target either.
    const third = await initRepository(join(top, `third-${round}`));
    expect(await copyVersions({ from: to, to: third, dataset: 'birds' })).toMatchObject({ versions: 3 });
    expect(await deepDamage(third)).toEqual([]);
    await third.bucket.close();
  });

  it('carries every branch and tag, and again only what is new', async () => {
    history.change();
    await history.import(from, 'birds', 'experiment');
    const first = await collect(copyNames({ from, to, dataset: 'birds' }));
    expect(first.map(({ outcome }) => outcome)).toEqual(Array(6).fill('created'));
    expect(await namesIn(to, 'birds')).toEqual(await namesIn(from, 'birds'));
    await writeTag(from, 'birds', 'new', { version: versions[1]! });
    const second = await collect(copyNames({ from, to, dataset: 'birds' }));
    expect(second.filter(({ outcome }) => outcome !== 'unchanged').map(({ name }) => name)).toEqual(['new']);
    expect(await namesIn(to, 'birds')).toEqual(await namesIn(from, 'birds'));
    expect(await deepDamage(to)).toEqual([]);
  });

  it('moves a branch only forward, and a tag not at all, unless it is forced', async () => {
    await copy();
    await copy({ ref: 'v1' });
    history.change();
    const ahead = await history.import(to, 'birds');
    await expect(copy()).rejects.toThrow('the target is ahead');
    history.change();
    await history.import(from, 'birds');
    await expect(copy()).rejects.toThrow(ConflictError);
    await expect(copy()).rejects.toThrow('does not follow from');
    expect((await readBranch(to, 'birds', 'main'))?.version).toBe(ahead);
    expect(await copy({ as: { branch: 'theirs' } })).toMatchObject({ outcome: 'created', name: 'theirs' });
    expect(await copy({ force: true })).toMatchObject({ outcome: 'moved', before: ahead });

    await writeTag(from, 'birds', 'v1', { version: versions[2]!, force: true });
    await expect(copy({ ref: 'v1' })).rejects.toThrow('a tag is meant to stay');
    expect(await copy({ ref: 'v1', force: true })).toMatchObject({ outcome: 'moved', before: versions[1] });
    expect(await deepDamage(to)).toEqual([]);
  });

  it('refuses what has no sense, and says what to do', async () => {
    await expect(copy({ to: from })).rejects.toThrow('larder branch create');
    await expect(copy({ ref: versions[1]!.slice(0, 12) })).rejects.toThrow('add --as birds@BRANCH');
    await expect(copy({ depth: 0 })).rejects.toThrow(InvalidError);
    await expect(copy({ dataset: 'bird' })).rejects.toThrow("did you mean 'birds'?");
    expect(await copy({ ref: versions[1]!.slice(0, 12), as: { dataset: 'old', branch: 'b' } })).toMatchObject({
      dataset: 'old',
      name: 'b',
      version: versions[1],
    });
  });

  it('publishes nothing of a version that is damaged in the source, and names what is', async () => {
    const { key, bytes } = await largestObject(from.bucket, PACKS);
    const flip = (object: Buffer) => {
      object[bytes.length - 1]! ^= 1;
      return object;
    };
    await withDamage(from, key, flip, async () => {
      const failure = await copy().catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(CorruptError);
      expect((failure as CorruptError).message).toContain(key.slice(key.lastIndexOf('/') + 1));
      expect(await readBranch(to, 'birds', 'main')).toBeUndefined();
      expect(await keysIn(to, VERSIONS)).toEqual([]);
    });
    await copy();
    expect(await deepDamage(to)).toEqual([]);
  });

  it('carries references to objects that stay where they are, with the record of where that is', async () => {
    const content = sourceContent({ bucket: 'raw data', key: 'a/b', etag: '"1"' });
    const attributes = { uid: 0, gid: 0, mtimeSeconds: 1, mtimeNanos: 0 };
    const record = Buffer.from('{"format":1,"location":"s3://raw"}\n');
    await from.bucket.put(sourceKey('raw data'), record);
    await commitChanges({
      repository: from,
      dataset: 'raw',
      branch: 'main',
      base: undefined,
      changes: (async function* () {
        yield [
          {
            kind: 'put' as const,
            entry: { type: 'directory' as const, path: bytesOf(''), mode: 0o755, ...attributes },
          },
          {
            kind: 'put' as const,
            entry: { type: 'file' as const, path: bytesOf('b'), mode: 0o644, ...attributes, size: 9, content },
          },
        ];
      })(),
      author: 'a',
      message: 'm',
    });
    const { version } = await copy({ dataset: 'raw' });
    const { root } = await readVersion(to, version);
    expect(await findEntry(to, root, bytesOf('b'))).toMatchObject({ content });
    expect(await keysIn(to, 'sources/')).toEqual([sourceKey('raw data')]);
    await deleteBranch(to, 'raw', 'main');
    await to.bucket.delete(versionKey(version));
    for (const key of await keysIn(to, SEGMENTS)) await to.bucket.delete(key);
    await to.bucket.put(sourceKey('raw data'), Buffer.from('{"format":1,"location":"s3://other"}\n'));
    await expect(copy({ dataset: 'raw' })).rejects.toThrow("different places for the bucket 'raw data'");
  });

  it('two copies at once both succeed, and the target is whole', async () => {
    history.change();
    await history.import(from, 'birds', 'other');
    const results = await Promise.all([copy(), copy({ ref: 'other' }), copy({ ref: 'v2' }), copy({ ref: 'v3' })]);
    expect(results.map(({ outcome }) => outcome)).toEqual(Array(4).fill('created'));
    expect(await deepDamage(to)).toEqual([]);
  });

  it('does not take a pack for present that this machine only remembers', async () => {
    await copy();
    for (const key of await keysIn(to, '')) if (key !== 'repository.json') await to.bucket.delete(key);
    expect(await copy()).toMatchObject({ outcome: 'created', versions: 4 });
    expect(await deepDamage(to)).toEqual([]);
  });

  it('goes from one such place to another', async () => {
    await collect(copyNames({ from, to, dataset: 'birds' }));
    const third = await initRepository(await make());
    await collect(copyNames({ from: to, to: third, dataset: 'birds' }));
    expect(await namesIn(third, 'birds')).toEqual(await namesIn(from, 'birds'));
    expect(await keysIn(third, PACKS)).toEqual(await keysIn(from, PACKS));
    expect(await deepDamage(third)).toEqual([]);
    await third.bucket.close();
  });

  it('copies back what was copied', async () => {
    await copy();
    history.change();
    const version = await history.import(to, 'birds');
    expect(await copyVersions({ from: to, to: from, dataset: 'birds' })).toMatchObject({ outcome: 'moved', version });
    expect(await deepDamage(from)).toEqual([]);
  });
});
