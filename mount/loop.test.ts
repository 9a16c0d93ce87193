import { closeSync, mkdtempSync, openSync, readSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { canMount } from '../test/support/privilege.ts';
import { attachLoop, backingFile, loopDevicesOf } from './loop.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'larder-loop-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

function image(name: string, size = 2 ** 20): string {
  const file = join(dir, name);
  writeFileSync(file, name);
  truncateSync(file, size);
  return file;
}

describe.skipIf(!canMount)('a loop device', () => {
  it('reads its file, is found by it, and is free again when nobody has it open', async () => {
    const file = image('one');
    {
      using loop = await attachLoop({ file, readOnly: true });
      expect(loopDevicesOf(file)).toEqual([loop.path]);
      expect(backingFile(loop.path)).toBe(file);
      const fd = openSync(loop.path, 'r+');
      expect(() => writeSync(fd, 'never')).toThrow(expect.objectContaining({ code: 'EPERM' }));
      const bytes = Buffer.alloc(3);
      readSync(fd, bytes);
      closeSync(fd);
      expect(bytes.toString()).toBe('one');
    }
    expect(loopDevicesOf(file)).toEqual([]);
  });

  it('goes past the page cache where the filesystem can', async () => {
    const file = image('two');
    using loop = await attachLoop({ file, readOnly: false, directIo: true, blockSize: 4096 });
    expect(loop.directIo).toBe(true);
    const fd = openSync(loop.path, 'r+');
    writeSync(fd, Buffer.alloc(4096, 'x'), 0, 4096, 0);
    closeSync(fd);
  });

  it('is had by each of many that want one at once', async () => {
    const wanted = Array.from({ length: 24 }, (_, index) => image(`file ${index}`));
    const loops = await Promise.all(wanted.map((file) => attachLoop({ file, readOnly: false })));
    try {
      expect(new Set(loops.map((loop) => loop.number)).size).toBe(wanted.length);
      expect(loops.map((loop) => backingFile(loop.path))).toEqual(wanted);
    } finally {
      for (const loop of loops) loop[Symbol.dispose]();
    }
  });

  it('is not made for a file that is not there, nor for a symbolic link', async () => {
    await expect(attachLoop({ file: join(dir, 'absent'), readOnly: true })).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
