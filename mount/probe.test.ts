import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { mount } from '../system/calls.ts';
import { canMount } from '../test/support/privilege.ts';
import { attachLoop } from './loop.ts';
import { readMountTable } from './mount-table.ts';
import { type FeatureName, type KernelReport, probeKernel } from './probe.ts';
import { cleanLeftovers } from './unmount.ts';

let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'larder-probe-'));
});

afterEach(async () => {
  if (canMount) await cleanLeftovers(dir);
  rmSync(dir, { recursive: true });
});

function has(report: KernelReport, feature: FeatureName): boolean {
  return report.features.find((one) => one.feature === feature)!.have;
}

const [major, minor] = release().split('.').map(Number);
const version = major! * 1000 + minor!;

describe.skipIf(!canMount)('the probe, where one may mount', () => {
  it('finds what this kernel has, by using it', async () => {
    const report = await probeKernel({ directory: dir });
    expect(report.kernel).toBe(release());
    // These tests mount all of it: what the probe misses would fail there.
    for (const feature of ['mount', 'loop', 'erofs', 'overlay', 'fuse', 'fuse-parallel', 'xfs'] as const) {
      expect(report.features.find((one) => one.feature === feature)).toMatchObject({ have: true });
    }
    expect(report).toMatchObject({ mounts: true, workspaces: true });
    expect(has(report, 'fuse-resend')).toBe(version >= 6009);
    if (version < 6012) expect(has(report, 'erofs-file')).toBe(false);
    if (version < 6009) expect(has(report, 'fuse-passthrough')).toBe(false);
  });

  it('says of what is missing why, what is done without it, and how to have it', async () => {
    for (const feature of (await probeKernel({ directory: dir })).features) {
      if (feature.have) expect(feature).toEqual({ feature: feature.feature, title: expect.any(String), have: true });
      else {
        for (const text of [feature.reason, feature.instead, feature.remedy]) expect(text).toMatch(/\S/);
      }
    }
  });

  it('tells a cache that has reflink from one that has not', async () => {
    for (const [type, options, expected] of [
      ['xfs', ['-q'], true],
      ['ext4', ['-q', '-F'], false],
    ] as const) {
      const cache = join(dir, type);
      const disk = join(dir, `${type}.disk`);
      mkdirSync(cache);
      writeFileSync(disk, '');
      truncateSync(disk, 600 * 2 ** 20);
      execFileSync(`mkfs.${type}`, [...options, disk]);
      using loop = await attachLoop({ file: disk, readOnly: false });
      mount({ source: loop.path, target: cache, type });
      const report = await probeKernel({ directory: cache });
      expect(has(report, 'reflink')).toBe(expected);
      expect(report.mounts).toBe(true);
    }
  });

  it('leaves nothing mounted, no device and no file', async () => {
    await probeKernel({ directory: dir });
    expect(readdirSync(dir)).toEqual([]);
    expect(readMountTable().filter((record) => record.mountPoint.startsWith(dir))).toEqual([]);
    for (const name of readdirSync('/sys/block').filter((name) => name.startsWith('loop'))) {
      let backing = '';
      try {
        backing = readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8');
      } catch {
        // A device that is free has none.
      }
      expect(backing).not.toContain(dir);
    }
  });

  it('clears away what one left that was killed', async () => {
    const program = `
      import { mkdtempSync, mkdirSync } from 'node:fs';
      import { mount } from ${JSON.stringify(join(import.meta.dirname, '../system/calls.ts'))};
      const target = mkdtempSync(${JSON.stringify(join(dir, '.probe-'))}) + '/tmpfs';
      mkdirSync(target);
      mount({ source: 'larder:probe', target, type: 'tmpfs' });
      process.kill(process.pid, 'SIGKILL');`;
    const { signal } = spawnSync(process.execPath, ['--input-type=module', '-e', program]);
    expect(signal).toBe('SIGKILL');
    expect(readMountTable().filter((record) => record.mountPoint.startsWith(dir))).toHaveLength(1);
    await probeKernel({ directory: dir });
    expect(readdirSync(dir)).toEqual([]);
    expect(readMountTable().filter((record) => record.mountPoint.startsWith(dir))).toEqual([]);
  });

  it('is done by one at a time', async () => {
    const reports = await Promise.all([probeKernel({ directory: dir }), probeKernel({ directory: dir })]);
    expect(reports[1]).toEqual(reports[0]);
    expect(readdirSync(dir)).toEqual([]);
  });
});

describe('the probe, where one may not mount', () => {
  it('says so once, and derives the rest', async () => {
    // A user namespace without the right: the process stays itself, so only another can try.
    const program = `
      import { probeKernel } from ${JSON.stringify(join(import.meta.dirname, 'probe.ts'))};
      console.log(JSON.stringify(await probeKernel({ directory: ${JSON.stringify(dir)} })));`;
    const node = [process.execPath, '--input-type=module', '-e', program];
    const asNobody = process.getuid!() === 0 ? ['setpriv', '--bounding-set=-all', '--inh-caps=-all', '--'] : [];
    const [command, ...args] = [...asNobody, ...node];
    const report = JSON.parse(execFileSync(command!, args, { encoding: 'utf8' })) as KernelReport;
    expect(report).toMatchObject({ mounts: false, workspaces: false });
    expect(report.features[0]).toMatchObject({
      feature: 'mount',
      have: false,
      reason: expect.stringContaining('EPERM'),
      remedy: expect.stringContaining('CAP_SYS_ADMIN'),
    });
    expect(report.features.find((one) => one.feature === 'overlay')!.reason).toBe('it needs mounting and EROFS images');
    expect(readdirSync(dir)).toEqual([]);
  });
});
