import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { kernelReport, lackLines, readKernelReport } from './kernel-report.ts';

const runtime = mkdtempSync(join(tmpdir(), 'larder-kernel-'));
afterAll(() => rmSync(runtime, { recursive: true }));
const place = { runtime, cache: join(runtime, 'cache') };

describe('what the kernel can do', () => {
  it('is found out once after a boot', async () => {
    expect(await readKernelReport(place)).toBeUndefined();
    const report = await kernelReport(place);
    expect(report).toMatchObject({ kernel: release() });
    const before = readFileSync(join(runtime, 'kernel.json'), 'utf8');
    expect(await kernelReport(place)).toEqual(report);
    expect(readFileSync(join(runtime, 'kernel.json'), 'utf8')).toBe(before);
  });

  it('is not believed of another cache or of another kernel', async () => {
    expect(await readKernelReport({ ...place, cache: '/elsewhere' })).toBeUndefined();
    const report = JSON.parse(readFileSync(join(runtime, 'kernel.json'), 'utf8')) as object;
    writeFileSync(join(runtime, 'kernel.json'), JSON.stringify({ ...report, kernel: '2.6.18' }));
    expect(await readKernelReport(place)).toBeUndefined();
  });

  it('is a line for each thing that is missing, with what to do', () => {
    const features = [
      { feature: 'loop', title: 'loop devices', have: true },
      { feature: 'reflink', title: 'reflink', have: false, reason: 'EOPNOTSUPP', instead: 'copies', remedy: 'use XFS' },
    ] as const;
    expect(lackLines({ kernel: '6.18', mounts: true, workspaces: true, features })).toEqual([
      'no reflink (EOPNOTSUPP): copies; to have it, use XFS',
    ]);
  });
});
