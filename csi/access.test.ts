import { describe, expect, it } from 'vitest';
import { InvalidError } from '../dataset/errors.ts';
import { asksReadOnly, CapabilityError, checkMounted, isExclusive, kindFor, mountGroupOf } from './access.ts';
import type { AccessMode, MountVolume, VolumeCapability } from './messages/volume.ts';

function mounted(mode: AccessMode | number, mount: Partial<MountVolume> = {}): VolumeCapability {
  return {
    accessType: 'mount',
    mount: { fsType: '', mountFlags: [], volumeMountGroup: '', ...mount },
    accessMode: { mode },
  };
}

describe('the kind of a volume', () => {
  it.each([
    [['MULTI_NODE_READER_ONLY'], 'pinned'],
    [['SINGLE_NODE_READER_ONLY'], 'pinned'],
    [['SINGLE_NODE_READER_ONLY', 'MULTI_NODE_READER_ONLY'], 'pinned'],
    [['SINGLE_NODE_WRITER'], 'workspace'],
    [['SINGLE_NODE_SINGLE_WRITER'], 'workspace'],
    [['SINGLE_NODE_MULTI_WRITER'], 'workspace'],
    [['SINGLE_NODE_READER_ONLY', 'SINGLE_NODE_WRITER'], 'workspace'],
  ] as [AccessMode[], string][])('follows from the access modes: %j is %s', (modes, kind) => {
    expect(kindFor(modes.map((mode) => mounted(mode)))).toBe(kind);
  });

  it.each([
    ['many writers', [mounted('MULTI_NODE_MULTI_WRITER')], /ReadWriteMany is not served.*merge/],
    ['one writer among many nodes', [mounted('MULTI_NODE_SINGLE_WRITER')], /one node at a time/],
    ['no mode', [mounted('UNKNOWN')], /access mode is missing/],
    ['a mode without a message', [{ ...mounted('UNKNOWN'), accessMode: null }], /access mode is missing/],
    ['a mode of a later specification', [mounted(9)], /access mode 9 is unknown/],
    [
      'writers and readers everywhere',
      [mounted('SINGLE_NODE_WRITER'), mounted('MULTI_NODE_READER_ONLY')],
      /not read on many/,
    ],
    ['a block device', [{ ...mounted('SINGLE_NODE_WRITER'), accessType: 'block', mount: undefined }], /Filesystem/],
    ['no access type', [{ accessMode: { mode: 'SINGLE_NODE_WRITER' } }], /access type/],
    ['a file system', [mounted('SINGLE_NODE_WRITER', { fsType: 'ext4' })], /"ext4".*fstype/],
    [
      'a group that has a name',
      [mounted('SINGLE_NODE_WRITER', { volumeMountGroup: 'staff' })],
      /volume_mount_group is "staff".*number/,
    ],
    ['nothing', [], /volume_capabilities is missing/],
  ] as [string, VolumeCapability[], RegExp][])('is refused for %s, with the reason', (_, capabilities, reason) => {
    expect(() => kindFor(capabilities)).toThrow(InvalidError);
    expect(() => kindFor(capabilities)).toThrow(reason);
  });

  it('is refused for a mount option, which the message keeps to itself', () => {
    const capabilities = [mounted('SINGLE_NODE_WRITER', { mountFlags: ['ro', 'password=hunter2'] })];
    expect(() => kindFor(capabilities)).toThrow(/^((?!hunter2).)*$/s);
  });
});

describe('a capability of a volume', () => {
  it('means one target at a time, unless several pods may use it', () => {
    expect(isExclusive(mounted('SINGLE_NODE_WRITER'), 'workspace')).toBe(true);
    expect(isExclusive(mounted('SINGLE_NODE_SINGLE_WRITER'), 'workspace')).toBe(true);
    expect(isExclusive(mounted('SINGLE_NODE_MULTI_WRITER'), 'workspace')).toBe(false);
    expect(isExclusive(mounted('MULTI_NODE_READER_ONLY'), 'pinned')).toBe(false);
    expect(isExclusive(mounted('SINGLE_NODE_READER_ONLY'), 'pinned')).toBe(true);
  });

  it('is refused where the volume is of the other kind', () => {
    expect(() => isExclusive(mounted('SINGLE_NODE_WRITER'), 'pinned')).toThrow(/read-only/);
    expect(() => isExclusive(mounted('MULTI_NODE_READER_ONLY'), 'workspace')).toThrow(/on one node/);
    expect(() => isExclusive(null, 'workspace')).toThrow(InvalidError);
  });

  it('that it lacks is told apart from one that is none', () => {
    expect(() => isExclusive(mounted('SINGLE_NODE_WRITER'), 'pinned')).toThrow(CapabilityError);
    expect(() => isExclusive({ ...mounted('SINGLE_NODE_WRITER'), accessType: 'block' }, 'workspace')).toThrow(
      CapabilityError,
    );
    expect(() => isExclusive({ accessMode: { mode: 'SINGLE_NODE_WRITER' } }, 'workspace')).not.toThrow(CapabilityError);
  });

  it('may name a group by its number', () => {
    expect(mountGroupOf(mounted('SINGLE_NODE_WRITER', { volumeMountGroup: '2000' }))).toBe(2000);
    expect(mountGroupOf(mounted('SINGLE_NODE_WRITER', { volumeMountGroup: '0' }))).toBe(0);
    expect(mountGroupOf(mounted('SINGLE_NODE_WRITER'))).toBeUndefined();
    for (const group of ['-1', '4294967295', '1e3', ' 5'])
      expect(() => mountGroupOf(mounted('SINGLE_NODE_WRITER', { volumeMountGroup: group })), group).toThrow(
        InvalidError,
      );
  });

  it('of an ephemeral volume is all but its mode', () => {
    expect(() => checkMounted(mounted('UNKNOWN'))).not.toThrow();
    expect(() => checkMounted(null)).toThrow(/volume_capability is missing/);
    expect(() => checkMounted(mounted('UNKNOWN', { fsType: 'xfs' }))).toThrow(/"xfs"/);
  });

  it('may ask for read-only by mount option', () => {
    expect(asksReadOnly(mounted('SINGLE_NODE_WRITER', { mountFlags: ['ro'] }))).toBe(true);
    expect(asksReadOnly(mounted('SINGLE_NODE_WRITER'))).toBe(false);
  });
});
