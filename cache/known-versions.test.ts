import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { sha256 } from '../dataset/digest.ts';
import { NotFoundError } from '../dataset/errors.ts';
import { canMount } from '../test/support/privilege.ts';
import { smallDisk } from '../test/support/small-disk.ts';
import { openKnownVersions } from './known-versions.ts';
import { layoutOf } from './layout.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'larder-versions-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const one = { version: sha256('one'), root: sha256('root'), repository: '/somewhere', dataset: 'images' };

it('remembers stagings and pins over a restart', async () => {
  const known = openKnownVersions(layoutOf(folder));
  await known.touch(one, 1000);
  await known.pin(one);
  await known.touch(one, 2000);
  const two = { ...one, version: sha256('two') };
  await known.pin(two);
  await known.unpin(two.version);
  const again = openKnownVersions(layoutOf(folder));
  expect(again.get(one.version)).toEqual({ ...one, lastStaged: 2000, pinned: true });
  expect(again.get(two.version)).toEqual({ ...two, lastStaged: 0, pinned: false });
  again.forget(one.version);
  expect(openKnownVersions(layoutOf(folder)).all()).toEqual([{ ...two, lastStaged: 0, pinned: false }]);
});

it('says which version it does not know', async () => {
  await expect(openKnownVersions(layoutOf(folder)).unpin(one.version)).rejects.toThrow(NotFoundError);
});

it('drops records that are none, and minds no other file', () => {
  const layout = layoutOf(folder);
  openKnownVersions(layout);
  writeFileSync(join(layout.versions, `${one.version}.json`), '{"version":');
  writeFileSync(join(layout.versions, `${sha256('x')}.json`), JSON.stringify({ ...one, lastStaged: 1, pinned: true }));
  writeFileSync(join(layout.versions, 'notes'), 'mine');
  expect(openKnownVersions(layout).all()).toEqual([]);
  expect(readdirSync(layout.versions)).toEqual(['notes']);
});

it.skipIf(!canMount)('knows what is staged on a full disk', async () => {
  await using disk = await smallDisk({ bytes: 32 * 2 ** 20 });
  const layout = layoutOf(disk.directory);
  const known = openKnownVersions(layout);
  const empty = disk.fill();
  await known.touch(one, 1000);
  expect(known.get(one.version)).toMatchObject({ lastStaged: 1000 });
  await expect(known.pin(one)).rejects.toMatchObject({ code: 'ENOSPC' });
  empty();
  await known.touch(one, 2000);
  expect(openKnownVersions(layout).all()).toMatchObject([{ lastStaged: 2000 }]);
});
