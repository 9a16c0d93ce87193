import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { getxattr } from '../system/calls.ts';
import { canMount } from '../test/support/privilege.ts';
import { bind } from './bind.ts';
import { mountImage } from './image-mount.ts';
import { loopDevicesOf } from './loop.ts';
import { mountAt, readMountTable } from './mount-table.ts';
import { type LayerForm, mountOverlay } from './overlay.ts';
import { breakNow, makeFaulty, makeStage, type Stage } from './stage.fixture.ts';
import { unmount } from './unmount.ts';

const hello = 'hello from an object';
const missing = 'an object that nobody has';
const files = { 'a dir/hello': hello, 'a dir/missing': missing, small: 'tiny', 'again,1:2': hello };

async function show(stage: Stage, extra: { form?: LayerForm; target?: string } = {}) {
  await mountImage({ file: stage.image, at: stage.layers.image });
  return mountOverlay({ layers: stage.layers, target: join(stage.directory, 'target'), name: 'test', ...extra });
}

describe.skipIf(!canMount)('an overlay of a version', () => {
  for (const form of ['descriptors', 'appended', 'joined'] as const) {
    it(`reads files of the image and of objects/, its layers named as ${form}`, async () => {
      await using stage = makeStage({ files, absent: [missing] });
      const { target, form: used } = await show(stage, { form });
      expect(used).toBe(form);
      expect(readFileSync(join(target, 'a dir/hello'), 'utf8')).toBe(hello);
      expect(readFileSync(join(target, 'again,1:2'), 'utf8')).toBe(hello);
      expect(readFileSync(join(target, 'small'), 'utf8')).toBe('tiny');
      expect(readdirSync(target).sort()).toEqual(['a dir', 'again,1:2', 'small']);
      expect(statSync(join(target, 'a dir/missing')).size).toBe(missing.length);
      expect(() => writeFileSync(join(target, 'small'), 'x')).toThrow(expect.objectContaining({ code: 'EROFS' }));
    });

    it(`takes any path, however long and whatever it holds, its layers named as ${form}`, async () => {
      const name = `sp ace,comma:colon\\back=eq'"ü%s${'x'.repeat(180)}`;
      await using stage = makeStage({ name, files });
      const deep = join(stage.directory, 'y'.repeat(200));
      mkdirSync(deep);
      expect(deep.length).toBeGreaterThan(255);
      const { target } = await show(stage, { form, target: deep });
      expect(readFileSync(join(target, 'a dir/hello'), 'utf8')).toBe(hello);
      expect(await unmount(target)).toMatchObject({ unmounted: true, detached: false });
      expect(existsSync(join(target, 'small'))).toBe(false);
    });
  }

  it('takes the first form that the kernel knows', async () => {
    await using stage = makeStage({ files });
    const [major, minor] = readFileSync('/proc/sys/kernel/osrelease', 'utf8').split('.').map(Number);
    const release = major! * 1000 + minor!;
    const expected = release >= 6013 ? 'descriptors' : release >= 6007 ? 'appended' : 'joined';
    expect((await show(stage)).form).toBe(expected);
  });

  it('answers EIO for an object that cannot be had, and finds it once it is in late/', async () => {
    await using stage = makeStage({ files, absent: [missing] });
    await makeFaulty(stage.layers.fault);
    const { target } = await show(stage);
    breakNow(stage.layers.fault);
    const read = () => readFileSync(join(target, 'a dir/missing'), 'utf8');
    expect(read).toThrow(expect.objectContaining({ code: 'EIO' }));
    const late = stage.objectPath(missing).replace(stage.layers.objects, stage.layers.late);
    mkdirSync(dirname(late));
    writeFileSync(late, missing);
    expect(read()).toBe(missing);
    // A file that resolved natively asks neither directory again.
    rmSync(late);
    expect(read()).toBe(missing);
  });

  it('shares its objects with other overlays, which live on without it', async () => {
    await using stage = makeStage({ files });
    const second = join(stage.directory, 'second');
    mkdirSync(second);
    const first = (await show(stage)).target;
    await show(stage, { target: second });
    expect(readFileSync(join(first, 'a dir/hello'), 'utf8')).toBe(hello);
    expect(readFileSync(join(second, 'a dir/hello'), 'utf8')).toBe(hello);
    await unmount(first);
    expect(readFileSync(join(second, 'a dir/hello'), 'utf8')).toBe(hello);
  });

  it('stands without its image mount, which ends with it', async () => {
    await using stage = makeStage({ files });
    await mountImage({ file: stage.image, at: stage.layers.image, via: 'loop' });
    const { target } = await show(stage);
    const [loop] = loopDevicesOf(stage.image);
    expect(loop).toMatch(/^\/dev\/loop\d+$/);
    await unmount(stage.layers.image);
    expect(readFileSync(join(target, 'small'), 'utf8')).toBe('tiny');
    expect(loopDevicesOf(stage.image)).toEqual([loop]);
    await unmount(target);
    expect(loopDevicesOf(stage.image)).toEqual([]);
  });

  it('is never half there: what cannot be mounted leaves the target as it was', async () => {
    await using stage = makeStage({ files });
    const target = join(stage.directory, 'target');
    const layers = { ...stage.layers, late: join(stage.directory, 'nowhere') };
    await mountImage({ file: stage.image, at: stage.layers.image });
    await expect(mountOverlay({ layers, target, name: 'test' })).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringMatching(/nowhere.*missing/),
    });
    // overlayfs refuses one directory as two layers, and says so.
    const twice = { ...stage.layers, late: stage.layers.objects };
    await expect(mountOverlay({ layers: twice, target, name: 'test' })).rejects.toMatchObject({ kind: 'unavailable' });
    expect(mountAt(realpathSync(target))).toBeUndefined();
    expect(readMountTable().filter((record) => record.source === 'larder:test')).toEqual([]);
  });

  it('can be seen in a second place, read-only', async () => {
    await using stage = makeStage({ files });
    const { target } = await show(stage);
    const place = join(stage.directory, 'place');
    mkdirSync(place);
    bind(target, place, { readOnly: true });
    await unmount(target);
    expect(readFileSync(join(place, 'a dir/hello'), 'utf8')).toBe(hello);
    expect(mountAt(place)!.attributes).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev']));
  });

  it('shows every file to find and du that stay on one filesystem', async () => {
    await using stage = makeStage({ files });
    const { target } = await show(stage);
    const found = execFileSync('find', [target, '-xdev', '-type', 'f'], { encoding: 'utf8' }).trim().split('\n');
    expect(found).toHaveLength(Object.keys(files).length);
    expect(new Set(['', 'small', 'a dir', 'a dir/hello'].map((path) => statSync(join(target, path)).dev)).size).toBe(1);
  });
});

describe.skipIf(!canMount)('a workspace overlay', () => {
  it('takes writes in its upper layer, renames directories whole, and leaves the version as it was', async () => {
    await using stage = makeStage({ files });
    const writable = { upper: join(stage.directory, 'upper'), work: join(stage.directory, 'work') };
    for (const path of Object.values(writable)) mkdirSync(path);
    await mountImage({ file: stage.image, at: stage.layers.image });
    const target = join(stage.directory, 'target');
    await mountOverlay({ layers: stage.layers, target, name: 'test', writable });
    writeFileSync(join(target, 'a dir/hello'), 'changed');
    execFileSync('mv', [join(target, 'a dir'), join(target, 'renamed')]);
    execFileSync('chmod', ['600', join(target, 'again,1:2')]);
    expect(readFileSync(join(target, 'renamed/hello'), 'utf8')).toBe('changed');
    expect(readFileSync(join(target, 'again,1:2'), 'utf8')).toBe(hello);
    expect(getxattr(join(writable.upper, 'again,1:2'), 'trusted.overlay.metacopy')).toBeDefined();
    expect(readdirSync(join(writable.upper, 'renamed'))).toEqual(['hello']);
    expect(readFileSync(stage.objectPath(hello), 'utf8')).toBe(hello);
    expect(statfsSync(target).type).toBe(0x794c7630);
    expect(
      new Set(['', 'small', 'renamed', 'renamed/hello'].map((path) => statSync(join(target, path)).dev)).size,
    ).toBe(1);
  });
});
