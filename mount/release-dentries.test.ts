import { closeSync, mkdirSync, openSync, readFileSync, readSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { canMount } from '../test/support/privilege.ts';
import { type SmallDisk, smallDisk } from '../test/support/small-disk.ts';
import { bind } from './bind.ts';
import { mountImage } from './image-mount.ts';
import { mountAt } from './mount-table.ts';
import { mountOverlay } from './overlay.ts';
import { releaseDentries } from './release-dentries.ts';
import { makeStage, type Stage } from './stage.fixture.ts';

const MEGABYTE = 2 ** 20;
const contents = ['a', 'b', 'c', 'd'].map((letter) => letter.repeat(8 * MEGABYTE));
const files = Object.fromEntries(contents.map((data, at) => [`file-${at}`, data]));

/** Four files of 8 MiB, all read through an overlay whose objects lie on a disk of their own. */
async function readStage(stage: Stage, writable = false): Promise<string> {
  const target = join(stage.directory, 'target');
  await mountImage({ file: stage.image, at: stage.layers.image });
  const upper = { upper: join(stage.directory, 'upper'), work: join(stage.directory, 'work') };
  if (writable) for (const path of Object.values(upper)) mkdirSync(path);
  await mountOverlay({ layers: stage.layers, target, name: 'test', ...(writable && { writable: upper }) });
  for (const path of Object.keys(files)) readFileSync(join(target, path));
  return target;
}

async function diskAndStage(type: 'ext4' | 'xfs') {
  await using stack = new AsyncDisposableStack();
  const disk = stack.use(await smallDisk({ type, bytes: 400 * MEGABYTE }));
  const stage = stack.use(makeStage({ files, parent: disk.directory }));
  const held = stack.move();
  return { disk, stage, [Symbol.asyncDispose]: () => held.disposeAsync() };
}

/** Removes them, and expects that nothing comes back by that alone. */
function removeAll(stage: Stage, disk: SmallDisk): number {
  const before = disk.free();
  for (const data of contents) unlinkSync(stage.objectPath(data));
  expect(disk.free()).toBeLessThan(before + MEGABYTE);
  return before;
}

describe.skipIf(!canMount)('releasing what overlays remember', () => {
  for (const type of ['ext4', 'xfs'] as const) {
    it(`gives the disk back what was removed, while the mount stays up, on ${type}`, async () => {
      await using both = await diskAndStage(type);
      const { disk, stage } = both;
      const target = await readStage(stage);
      const before = removeAll(stage, disk);
      expect(await releaseDentries()).toBe(1);
      expect(await disk.untilFree(before + 32 * MEGABYTE)).toBeGreaterThanOrEqual(before + 32 * MEGABYTE);
      // The mount is what it was: read-only, its tree whole, and what is there again is read.
      expect(() => writeFileSync(join(target, 'x'), '')).toThrow(expect.objectContaining({ code: 'EROFS' }));
      expect(() => readFileSync(join(target, 'file-0'))).toThrow(expect.objectContaining({ code: 'ENOENT' }));
      writeFileSync(stage.objectPath(contents[0]!), contents[0]!);
      expect(readFileSync(join(target, 'file-0'), 'latin1')).toBe(contents[0]);
    });
  }

  it('spares an open file, which is given back by the next release after it was closed', async () => {
    await using both = await diskAndStage('ext4');
    const { disk, stage } = both;
    const target = await readStage(stage);
    const open = openSync(join(target, 'file-0'), 'r');
    const before = removeAll(stage, disk);
    await releaseDentries();
    expect(disk.free()).toBeGreaterThanOrEqual(before + 24 * MEGABYTE);
    const buffer = Buffer.alloc(10);
    expect(readSync(open, buffer, 0, 10, 5 * MEGABYTE)).toBe(10);
    expect(buffer.toString()).toBe('aaaaaaaaaa');
    closeSync(open);
    expect(disk.free()).toBeLessThan(before + 25 * MEGABYTE);
    await releaseDentries();
    expect(disk.free()).toBeGreaterThanOrEqual(before + 32 * MEGABYTE);
  });

  it('leaves a workspace writable, with its changes, and asks each overlay once however often it is bound', async () => {
    await using both = await diskAndStage('ext4');
    const { disk, stage } = both;
    const target = await readStage(stage, true);
    const place = join(stage.directory, 'place');
    mkdirSync(place);
    bind(target, place, { readOnly: true });
    writeFileSync(join(target, 'new'), 'changed');
    const before = removeAll(stage, disk);
    expect(await releaseDentries()).toBe(1);
    expect(disk.free()).toBeGreaterThanOrEqual(before + 31 * MEGABYTE);
    writeFileSync(join(target, 'newer'), 'also');
    expect(readFileSync(join(place, 'new'), 'utf8')).toBe('changed');
    expect(mountAt(place)!.attributes).toContain('ro');
  });
});
