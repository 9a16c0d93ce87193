import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { enableVerity, measureVerity } from './verity.ts';

/** What says that there is no fs-verity, here or on this filesystem. */
const REFUSALS = ['ENOTSUP', 'ENOTTY'];

it('has the kernel check a file, or is told that it cannot, and the file stays as it was', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'larder-verity-'));
  const file = join(folder, 'file');
  writeFileSync(file, 'x'.repeat(10_000));
  const descriptor = openSync(file, 'r');
  try {
    const outcome = await enableVerity(descriptor, file).then(
      () => 'enabled',
      (error: NodeJS.ErrnoException) => error.code,
    );
    if (outcome === 'enabled') {
      expect(measureVerity(descriptor)).toHaveLength(32);
      await expect(enableVerity(descriptor)).rejects.toMatchObject({ code: 'EEXIST' });
      expect(() => openSync(file, 'r+')).toThrow('EPERM');
    } else {
      expect(REFUSALS).toContain(outcome);
      expect(() => measureVerity(descriptor)).toThrow(/FS_IOC_MEASURE_VERITY/);
      writeFileSync(file, 'it can be written');
    }
    expect(readFileSync(file).length).toBeGreaterThan(0);
  } finally {
    closeSync(descriptor);
    rmSync(folder, { recursive: true });
  }
});
