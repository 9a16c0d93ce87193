import { describe, expect, it } from 'vitest';
import { type ByteString, textOf } from '../dataset/byte-string.ts';
import { mountAt, mountsUnder, parseMountTable, readMountTable } from './mount-table.ts';

const table = parseMountTable(
  [
    '27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard',
    '40 27 0:40 / /a rw shared:3 master:2 propagate_from:1 - tmpfs none rw',
    '41 40 0:41 / /a/b\\040c\\134d\\011\\012 ro,nosuid,nodev - overlay larder:x ro,lowerdir+=/x\\054y,metacopy=on',
    '42 40 0:42 /sub/dir /a rw - xfs /dev/loop0 rw',
    '43 42 0:43 / /a/deep/er rw - erofs /caf\xc3\xa9 ro',
    '44 27 0:44 / /ab rw - tmpfs - rw',
  ].join('\n') as ByteString,
);

describe('the mount table', () => {
  it('gives names back as bytes', () => {
    expect(table[2]).toEqual({
      id: 41,
      parent: 40,
      device: '0:41',
      root: '/',
      mountPoint: '/a/b c\\d\t\n',
      attributes: ['ro', 'nosuid', 'nodev'],
      type: 'overlay',
      source: 'larder:x',
      options: 'ro,lowerdir+=/x\\054y,metacopy=on',
    });
    expect(table[4]!.source).toBe('/caf\xc3\xa9');
    expect(table[5]!.source).toBe('-');
  });

  it('finds the topmost of the mounts stacked on a directory', () => {
    expect(mountAt('/a', table)!.id).toBe(42);
    expect(mountAt('/a/deep', table)).toBeUndefined();
  });

  it('lists what lies under a directory in the order in which it can be unmounted', () => {
    expect(mountsUnder('/a', table).map((record) => record.id)).toEqual([43, 42, 41, 40]);
  });

  it('is readable here', () => {
    expect(mountAt('/proc', readMountTable())!.type).toBe('proc');
    expect(mountAt('/proc', readMountTable(process.pid))!.type).toBe('proc');
  });

  it('is what the kernel tells of each mount alone', () => {
    const all = readMountTable();
    const topmost = all.filter(({ mountPoint }) => all.filter((other) => other.mountPoint === mountPoint).length === 1);
    expect(topmost.length).toBeGreaterThan(2);
    for (const record of topmost) expect(mountAt(textOf(record.mountPoint))).toEqual(record);
    expect(mountAt(import.meta.dirname)).toBeUndefined();
    expect(mountAt('/nothing/there')).toBeUndefined();
  });

  it('refuses a line that it does not understand', () => {
    expect(() => parseMountTable('1 2 3:4 / / rw' as ByteString)).toThrow('cannot be read');
  });
});
