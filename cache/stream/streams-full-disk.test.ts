import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { canMount } from '../../test/support/privilege.ts';
import { createRandom } from '../../test/support/random.ts';
import { expectLocalRight, readAtRandom, readInOrder, streamRig, until } from './streams.fixture.ts';

const MIB = 1024 * 1024;

describe.skipIf(!canMount)('a disk that is full', () => {
  it('takes what it can of a large object; the rest is read through memory, and it goes on to the disk when that has space', async () => {
    await using stack = new AsyncDisposableStack();
    const disk = mkdtempSync(join(tmpdir(), 'larder-full-disk-'));
    stack.defer(() => rmSync(disk, { recursive: true, force: true }));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', disk]);
    stack.defer(() => void execFileSync('umount', ['-l', disk]));
    // Somebody else's.
    writeFileSync(join(disk, 'ballast'), Buffer.alloc(16 * MIB));
    const large = Array.from({ length: 40 }, () => randomBytes(300_000));
    const rig = stack.use(await streamRig({ large }, { directory: join(disk, 'cache'), memory: 2 * MIB }));
    const file = await rig.open('large');
    await readInOrder(file, rig.bytes('large'), 100_000);
    await readAtRandom(file, rig.bytes('large'), createRandom(51), 40);
    const right = expectLocalRight(file, rig.bytes('large'), (descriptor, into, position) => {
      expect(readSync(descriptor, into, 0, into.length, position)).toBe(into.length);
    });
    expect(right).toBeGreaterThan(10);
    expect(right).toBeLessThan(Math.ceil(file.size / file.local!.block));
    expect(file.whole()).toBeUndefined();
    expect(rig.warnings).toEqual([]);
    file.close();
    rmSync(join(disk, 'ballast'));
    const again = await rig.open('large');
    await readInOrder(again, rig.bytes('large'), 100_000);
    await until(() => again.whole() !== undefined);
    again.close();
  }, 60_000);
});
