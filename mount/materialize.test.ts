import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Digest } from '../dataset/digest.ts';
import type { Entry } from '../dataset/entry.ts';
import { mount, setxattr, utimensat } from '../system/calls.ts';
import { canMount } from '../test/support/privilege.ts';
import { attachLoop } from './loop.ts';
import { materialize } from './materialize.ts';
import { dump, scanTree, storeObject } from './tree.fixture.ts';
import { cleanLeftovers } from './unmount.ts';

let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'larder-materialize-'));
});

afterEach(async () => {
  if (canMount) await cleanLeftovers(dir);
  rmSync(dir, { recursive: true });
});

const exact = { times: true, links: true };

function makeSource(cache: string) {
  const source = join(dir, 'source');
  mkdirSync(join(source, 'a/b'), { recursive: true });
  writeFileSync(join(source, 'a/large'), 'large '.repeat(1000));
  writeFileSync(join(source, 'a/b/same'), 'large '.repeat(1000));
  linkSync(join(source, 'a/large'), join(source, 'linked'));
  writeFileSync(join(source, 'tiny'), 'tiny');
  symlinkSync('nowhere', join(source, 'symlink'));
  setxattr(join(source, 'a/b/same'), 'user.label', Buffer.from('label'));
  chmodSync(join(source, 'a/b/same'), 0o4755);
  chmodSync(join(source, 'a/b'), 0o750);
  utimensat(join(source, 'symlink'), 'omit', { seconds: -9, nanos: 8 });
  utimensat(join(source, 'a/b'), 'omit', { seconds: 1, nanos: 2 });
  const objects = join(cache, 'objects');
  const entries = scanTree(source, (content, data) => storeObject(objects, content, data));
  const objectPath = (id: Digest) => join(objects, id.slice(0, 2), id);
  const objectOf = (path: string) => objectPath(contentOf(entries, path));
  // Made within one tick of the clock, it would by chance have the time of its file.
  utimensat(objectOf('a/large'), 'omit', { seconds: 1, nanos: 0 });
  return { entries, objects, objectPath, objectOf };
}

function contentOf(entries: readonly Entry[], path: string): Digest {
  const entry = entries.find((one) => one.path === path);
  if (entry?.type !== 'file' || entry.content.kind !== 'chunk') throw new Error(`${path} has no object`);
  return entry.content.id;
}

async function* batches(entries: readonly Entry[]) {
  for (let i = 0; i < entries.length; i += 2) yield entries.slice(i, i + 2);
}

describe('a version as a plain directory', () => {
  it('is exact in content, metadata and links, and independent of the cache', async () => {
    const { entries, objectPath, objectOf, objects } = makeSource(dir);
    const target = join(dir, 'target');
    const result = await materialize({ entries: batches(entries), objectPath, target });
    expect(result).toMatchObject({ files: 4, inexact: 0 });
    expect(dump(scanTree(target), exact)).toEqual(dump(entries, exact));
    appendFileSync(join(target, 'a/large'), 'mine');
    expect(readFileSync(objectOf('a/large'), 'utf8')).toBe('large '.repeat(1000));
    rmSync(objects, { recursive: true });
    expect(readFileSync(join(target, 'a/b/same'), 'utf8')).toBe('large '.repeat(1000));
  });

  it('links an object that has the entry’s own metadata', async () => {
    const { entries, objectPath, objectOf } = makeSource(dir);
    const { mode, mtimeSeconds, mtimeNanos } = entries.find((entry) => entry.path === 'a/large')!;
    chmodSync(objectOf('a/large'), mode);
    utimensat(objectOf('a/large'), 'omit', { seconds: mtimeSeconds, nanos: mtimeNanos });
    const target = join(dir, 'target');
    expect(await materialize({ entries: batches(entries), objectPath, target })).toMatchObject({ linked: 1 });
    expect(statSync(join(target, 'a/large')).ino).toBe(statSync(objectOf('a/large')).ino);
    expect(dump(scanTree(target), exact)).toEqual(dump(entries, exact));
    const writable = join(dir, 'writable');
    expect(
      await materialize({ entries: batches(entries), objectPath, target: writable, writable: true }),
    ).toMatchObject({
      linked: 0,
    });
    expect(statSync(join(writable, 'a/large')).ino).not.toBe(statSync(objectOf('a/large')).ino);
  });

  it('takes links that show the object’s own metadata only when asked, and counts them', async () => {
    const { entries, objectPath } = makeSource(dir);
    const result = await materialize({
      entries: batches(entries),
      objectPath,
      target: join(dir, 'target'),
      approximate: true,
    });
    expect(result.copied).toBe(0);
    expect(result.linked).toBe(result.inexact);
    // On a disk with reflink nothing need be linked.
    expect(result.linked + result.cloned).toBe(2);
    expect(readFileSync(join(dir, 'target/a/b/same'), 'utf8')).toBe('large '.repeat(1000));
  });

  it('is there whole or not at all', async () => {
    const { entries, objectPath, objectOf } = makeSource(dir);
    mkdirSync(join(dir, 'target.partial'));
    writeFileSync(join(dir, 'target.partial/left by a crash'), '');
    const target = join(dir, 'target');
    rmSync(objectOf('a/large'));
    await expect(materialize({ entries: batches(entries), objectPath, target })).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining("'a/b/same' is not in the cache"),
    });
    expect(existsSync(target)).toBe(false);
    expect(existsSync(`${target}.partial`)).toBe(false);
    mkdirSync(target);
    writeFileSync(join(target, 'precious'), '');
    const none = entries.filter((entry) => entry.type === 'directory');
    await expect(materialize({ entries: batches(none), objectPath, target })).rejects.toMatchObject({
      kind: 'conflict',
    });
    expect(existsSync(join(target, 'precious'))).toBe(true);
  });
});

describe.skipIf(!canMount)('on a filesystem with reflink', () => {
  it('shares the objects’ blocks', async () => {
    const cache = join(dir, 'cache');
    mkdirSync(cache);
    writeFileSync(join(dir, 'disk'), '');
    truncateSync(join(dir, 'disk'), 300 * 2 ** 20);
    execFileSync('mkfs.xfs', ['-q', join(dir, 'disk')]);
    using loop = await attachLoop({ file: join(dir, 'disk'), readOnly: false });
    mount({ source: loop.path, target: cache, type: 'xfs' });
    const { entries, objectPath } = makeSource(cache);
    const target = join(cache, 'target');
    const result = await materialize({ entries: batches(entries), objectPath, target });
    expect(result).toEqual({ files: 4, linked: 0, cloned: 2, copied: 0, bytesCopied: 0, inexact: 0 });
    expect(dump(scanTree(target), exact)).toEqual(dump(entries, exact));
  });
});
